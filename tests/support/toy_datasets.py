"""Small datasets in the layouts of the training code and of published packages."""

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
    """Return smooth images, each different: uint8 (H, W, 3) BGR."""
    rng = np.random.default_rng(count)
    small = rng.integers(0, 256, (count, 8, 10, 3), dtype=np.uint8)
    return [cv2.resize(s, (width, height), interpolation=cv2.INTER_CUBIC) for s in small]


def rect_of(k: int) -> tuple[int, int, int, int]:
    """Return the rectangle of frame k: it moves, and its size changes."""
    return 40 + k, 20 + 2 * k, 110 - k, 20 + 2 * k + 70 - 2 * k


def write_landmarks(path: Path, rect: tuple[float, float, float, float], points: int = 110) -> None:
    """Write a landmark file with decimals; the rectangle's points are where 110 have them."""
    x1, y1, x2, _ = rect
    lines = [f"{n}.5 {n}.5" for n in range(points)]
    for n, line in ((1, f"{x1}.9 7.0"), (52, f"9.0 {y1}.75"), (31, f"{x2}.25 11")):
        if n < points:
            lines[n] = line
    path.write_text("\n".join(lines) + "\n")


def make_raw(directory: Path, *, count: int = COUNT, masks: bool = False) -> Path:
    """Write a raw dataset folder."""
    for name in ("landmarks", *(["parsing"] if masks else [])):
        (directory / name).mkdir(parents=True)
    write_jpegs(directory / "full_body_img", make_frames(count))
    rng = np.random.default_rng(5)
    for k in range(count):
        write_landmarks(directory / "landmarks" / f"{k}.lms", rect_of(k))
        if masks:
            colours = np.array(PARSING_COLOURS, np.uint8)
            labels = rng.integers(0, len(colours), (HEIGHT // 8, WIDTH // 8))
            labels = labels.repeat(8, axis=0).repeat(8, axis=1)
            cv2.imwrite(str(directory / "parsing" / f"{k}.png"), colours[labels])
    return directory


def make_packaged(
    directory: Path,
    *,
    videos: bool,
    count: int = COUNT,
    cache: bool = False,
    fps: float = 25,
    name: str = "full_body",
    first: int = 0,
) -> Path:
    """Write a packaged dataset: a video, or a folder of JPEGs, and the rectangles.

    Args:
        videos: the frames are `full_body_video.mp4`.
        cache: the rectangles lie in `cache/`.
        fps: of the video.
        name, first: of the folder, and the number of its first frame.
    """
    frames = make_frames(count)
    directory.mkdir(parents=True)
    if videos:
        write_video(directory / f"{name}_video.mp4", frames, fps)
    else:
        write_jpegs(directory / name, frames, first)
    rects = {str(k): {"rect": list(rect_of(k))} for k in range(count)}
    place = directory / "cache" if cache else directory
    place.mkdir(exist_ok=True)
    (place / "crop_rectangles.json").write_text(json.dumps(rects))
    return directory


def write_jpegs(folder: Path, frames: list[Array], first: int = 0) -> None:
    folder.mkdir(parents=True)
    for k, frame in enumerate(frames, first):
        cv2.imwrite(str(folder / f"{k}.jpg"), frame)


def write_video(path: Path, frames: list[Array], fps: float = 25) -> None:
    """Write a video as the packaging script does, with OpenCV: MPEG-4, a key frame every twelve."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
    for frame in frames:
        writer.write(frame)
    writer.release()


def tree(root: Path) -> dict[str, bytes]:
    """Return the files below a folder and of scratch folders beside it, with their contents."""
    files = [p for p in root.parent.rglob("*") if p.is_file() and "dataset" not in p.parts]
    return {str(p.relative_to(root.parent)): p.read_bytes() for p in files}
