"""Small datasets, written as the training code's users have them on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

WIDTH, HEIGHT, COUNT = 160, 120, 5  # of the toy datasets
MODEL_REPOSITORY = Path(__file__).parents[2] / "model_repository"
PARSING_COLOURS = [(0, 0, 255), (255, 255, 255), (255, 0, 0), (0, 0, 0), (0, 255, 255)]


def make_frames(count: int = COUNT, width: int = WIDTH, height: int = HEIGHT) -> list[Array]:
    """Smooth pictures, each different: uint8 (H, W, 3) BGR."""
    rng = np.random.default_rng(count)
    small = rng.integers(0, 256, (count, 8, 10, 3), dtype=np.uint8)
    return [cv2.resize(s, (width, height), interpolation=cv2.INTER_CUBIC) for s in small]


def rect_of(k: int) -> tuple[int, int, int, int]:
    """Rectangle of frame k: moves, and changes its size."""
    return 40 + k, 20 + 2 * k, 110 - k, 20 + 2 * k + 70 - 2 * k


def write_landmarks(path: Path, rect: tuple[float, float, float, float], points: int = 110) -> None:
    x1, y1, x2, _ = rect
    lines = [f"{n}.5 {n}.5" for n in range(points)]
    for n, line in ((1, f"{x1}.9 7.0"), (52, f"9.0 {y1}.75"), (31, f"{x2}.25 11")):
        if n < points:
            lines[n] = line
    path.write_text("\n".join(lines) + "\n")


def make_raw(directory: Path, *, count: int = COUNT, masks: bool = False) -> Path:
    """A raw dataset folder."""
    for name in ("full_body_img", "landmarks", *(["parsing"] if masks else [])):
        (directory / name).mkdir(parents=True)
    rng = np.random.default_rng(5)
    for k, frame in enumerate(make_frames(count)):
        cv2.imwrite(str(directory / "full_body_img" / f"{k}.jpg"), frame)
        write_landmarks(directory / "landmarks" / f"{k}.lms", rect_of(k))
        if masks:
            colours = np.array(PARSING_COLOURS, np.uint8)
            labels = rng.integers(0, len(colours), (HEIGHT // 8, WIDTH // 8))
            labels = labels.repeat(8, axis=0).repeat(8, axis=1)
            cv2.imwrite(str(directory / "parsing" / f"{k}.png"), colours[labels])
    return directory


def make_packaged(directory: Path, *, videos: bool, count: int = COUNT) -> Path:
    """A packaged dataset: four videos, or four folders."""
    frames = make_frames(count)
    sizes = {"full_body": None, "crops_328": 328, "rois_320": 320, "model_inputs": 320}
    directory.mkdir(parents=True)
    for name, side in sizes.items():
        pictures = [f if side is None else cv2.resize(f, (side, side)) for f in frames]
        if videos:
            height, width = pictures[0].shape[:2]
            fourcc = cv2.VideoWriter.fourcc(*"mp4v")
            path = str(directory / f"{name}_video.mp4")
            writer = cv2.VideoWriter(path, fourcc, 25, (width, height))
            for picture in pictures:
                writer.write(picture)
            writer.release()
        else:
            (directory / name).mkdir()
            for k, picture in enumerate(pictures):
                cv2.imwrite(str(directory / name / f"{k}.jpg"), picture)
    rects = {str(k): {"rect": list(rect_of(k))} for k in range(count)}
    (directory / "crop_rectangles.json").write_text(json.dumps(rects))
    return directory
