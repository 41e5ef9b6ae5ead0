"""Draw the demo avatar, and write it as the raw dataset folder that `lipsync-avatar` reads.

    python examples/demo/draw.py build/demo/dataset

The character is SVG that character.py and mouth.py write and motion.py moves, rasterised by resvg. The
same renderer, with other mouth parameters, draws the targets of the training.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import resvg_py
from character import background_svg, figure_svg
from motion import FRAMES, HEIGHT, WIDTH, face_rect, pose
from mouth import CLOSED, Mouth

JPEG_QUALITY = 95
LANDMARKS = 110
"""Lines of a landmark file. Only 1, 31 and 52 define the face rectangle."""

Image = npt.NDArray[np.uint8]


def _rasterise(svg: str, x: int, y: int, width: int, height: int) -> Image:
    """Return a window of the drawing: uint8 [height, width, 4] BGRA, alpha not premultiplied."""
    document = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="{x} {y} {width} {height}">{svg}</svg>'
    )
    png = bytes(resvg_py.svg_to_bytes(svg_string=document, skip_system_fonts=True))
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    return np.asarray(image, np.uint8)


@functools.cache
def _background() -> Image:
    return _rasterise(background_svg(), 0, 0, WIDTH, HEIGHT)[:, :, :3]


def draw(frame: int, mouth: Mouth, window: tuple[int, int, int, int]) -> Image:
    """Return the window x1, y1, x2, y2 of a frame with a mouth: uint8 [y2-y1, x2-x1, 3] BGR."""
    x1, y1, x2, y2 = window
    figure = _rasterise(figure_svg(pose(frame), mouth), x1, y1, x2 - x1, y2 - y1)
    alpha = figure[:, :, 3:].astype(np.float32) / 255.0
    behind = _background()[y1:y2, x1:x2].astype(np.float32)
    mixed = behind + (figure[:, :, :3].astype(np.float32) - behind) * alpha
    return np.asarray(np.rint(mixed), np.uint8)


def draw_frame(frame: int, mouth: Mouth = CLOSED) -> Image:
    """Return a whole frame of the loop: uint8 [720, 1280, 3] BGR."""
    return draw(frame, mouth, (0, 0, WIDTH, HEIGHT))


def draw_face(frame: int, mouth: Mouth = CLOSED) -> Image:
    """Return the face square of a frame, the same pixels as in `draw_frame`: uint8 [side, side, 3] BGR."""
    return draw(frame, mouth, face_rect(frame))


def landmarks(frame: int) -> npt.NDArray[np.int64]:
    """Return an oval about the face with the three points that define the square: int64 [110, 2] x, y."""
    x1, y1, x2, y2 = face_rect(frame)
    angle = np.linspace(0.0, 2.0 * np.pi, LANDMARKS, endpoint=False)
    centre, radius = np.array([(x1 + x2) / 2, (y1 + y2) / 2]), 0.45 * (x2 - x1)
    points = (centre + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)).astype(np.int64)
    points[1] = x1, (y1 + y2) // 2
    points[31] = x2, (y1 + y2) // 2
    points[52] = (x1 + x2) // 2, y1
    return np.asarray(points, np.int64)


def _write_frame(directory: Path, frame: int) -> None:
    image = draw_frame(frame)
    path = directory / "full_body_img" / f"{frame}.jpg"
    ok, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not ok:
        raise RuntimeError(f"{path}: OpenCV could not encode frame {frame} as JPEG")
    path.write_bytes(data.tobytes())
    lines = "".join(f"{x} {y}\n" for x, y in landmarks(frame))
    (directory / "landmarks" / f"{frame}.lms").write_text(lines)


def write_dataset(directory: Path | str) -> None:
    """Write the raw dataset folder: `full_body_img/{k}.jpg` and `landmarks/{k}.lms`, mouth closed.

    The bytes are the same every time, with the same versions of resvg and OpenCV.
    """
    root = Path(directory)
    for name in ("full_body_img", "landmarks"):
        (root / name).mkdir(parents=True, exist_ok=True)
    # Processes and not threads: resvg_py holds Python's lock while it draws.
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(functools.partial(_write_frame, root), range(FRAMES), chunksize=4))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: draw.py DIRECTORY")
    write_dataset(sys.argv[1])
