"""The toy avatars and their datasets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
TOY_WIDTH = 1 / 16  # of the true network's channels: the shapes are the contract's


@dataclass(frozen=True)
class ToyAvatar:
    """The files that an avatar was made from."""

    name: str
    dataset: Path
    generator: Path
    encoder: Path


def write_dataset(directory: Path, size: tuple[int, int], count: int, outside: bool) -> None:
    """Write a raw dataset folder with smooth random frames and a moving face rectangle.

    Args:
        directory: the folder to make.
        size: width and height of the frames, in pixels.
        count: number of frames.
        outside: let the rectangles reach outside the frame, and write parsing masks too.
    """
    (directory / "full_body_img").mkdir(parents=True)
    (directory / "landmarks").mkdir()
    width, height = size
    rng = np.random.default_rng(count)
    for k in range(count):
        small = rng.integers(0, 256, (9, 16, 3), dtype=np.uint8)
        frame = cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(directory / f"full_body_img/{k}.jpg"), frame)
        side = height // 2 + 7 * k
        x1, y1 = width // 3 + 5 * k, height // 4 + 3 * k
        if outside:  # over the lower edge, the right, the left (in part by truncation), the upper
            x1 = [x1, width - side // 2, -side // 3, x1][k % 4]
            y1 = [height - side // 2, y1, y1, -side // 4][k % 4]
        write_landmarks(directory / f"landmarks/{k}.lms", x1, y1, side)
        if outside:
            squares = rng.integers(0, 5, (height // 16 + 1, width // 16 + 1))
            labels = squares.repeat(16, axis=0).repeat(16, axis=1)
            write_parsing(directory / f"parsing/{k}.png", labels[:height, :width])


def write_landmarks(path: Path, x1: int, y1: int, side: int) -> None:
    """Write the landmarks of a face rectangle, with decimals that a reader must cut off."""
    points = np.zeros((110, 2))
    points[1, 0], points[31, 0], points[52, 1] = x1 + 0.7, x1 + side + 0.2, y1 + 0.9
    np.savetxt(path, points, fmt="%.2f")


def write_parsing(path: Path, labels: NDArray[Any]) -> None:
    """Write a parsing mask from labels (H, W): 0 and 1 keep the frame's own pixel, 2 to 4 do not."""
    path.parent.mkdir(exist_ok=True)
    colours = [(0, 0, 255), (255, 255, 255), (255, 0, 0), (0, 0, 0), (0, 255, 255)]
    cv2.imwrite(str(path), np.array(colours, np.uint8)[labels])
