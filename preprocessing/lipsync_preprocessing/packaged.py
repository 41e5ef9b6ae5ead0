"""The packaged dataset: four videos (or folders of JPEGs of the same names) and the rectangles.

Only the full frames and the rectangles are used: the other three are derived from them, and as
lossy videos. They are counted, since a package whose parts disagree was cut somewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2

from lipsync_preprocessing.dataset import Dataset, Frame, checked_rect, count_files, read_jpeg
from lipsync_preprocessing.errors import DatasetError
from lipsync_preprocessing.faces import Image, Rect

FULL_BODY = "full_body"
DERIVED = ("crops_328", "rois_320", "model_inputs")
RECTANGLES = "crop_rectangles.json"


def is_packaged(directory: Path) -> bool:
    """Whether the folder looks like a package."""
    return (directory / RECTANGLES).exists() or _part(directory, FULL_BODY) is not None


def read_packaged(directory: str | Path) -> Dataset:
    """Read `full_body_video.mp4` or `full_body/{k}.jpg`, and `crop_rectangles.json`."""
    directory = Path(directory)
    source = _part(directory, FULL_BODY)
    if source is None:
        raise DatasetError(f"{directory}: expected {FULL_BODY}_video.mp4 or {FULL_BODY}/, neither")
    count = _count(source)
    for name in DERIVED:
        part = _part(directory, name)
        if part is None:
            raise DatasetError(f"{directory}: expected {name}_video.mp4 or {name}/, neither")
        if (came := _count(part)) != count:
            raise DatasetError(
                f"{part}: expected {count} frames, as many as {source.name} has, got {came}"
            )
    first = next(_images(source))[0]
    height, width = first.shape[:2]
    path = directory / RECTANGLES
    rects = [
        checked_rect(rect, width, height, f"{path}: {str(k)!r}")
        for k, rect in enumerate(_rectangles(path, count))
    ]

    def read() -> Iterator[Frame]:
        done = 0
        for (image, jpeg), rect in zip(_images(source, (width, height)), rects, strict=False):
            done += 1
            yield Frame(image, rect, None, jpeg)
        if done != count:
            raise DatasetError(f"{source}: expected {count} frames, could decode {done}")

    return Dataset(directory, width, height, rects, False, read)


def _part(directory: Path, name: str) -> Path | None:
    video, folder = directory / f"{name}_video.mp4", directory / name
    if video.is_file():
        return video
    return folder if folder.is_dir() else None


def _count(part: Path) -> int:
    if part.is_dir():
        return count_files(part, ".jpg")
    try:
        with av.open(str(part)) as container:
            if not container.streams.video:
                raise DatasetError(f"{part}: expected a video, it has no picture")
            packets = container.demux(container.streams.video[0])
            count = sum(1 for packet in packets if packet.size)
    except (av.error.FFmpegError, OSError) as error:
        raise DatasetError(f"{part}: expected a video, cannot be read: {error}") from error
    if not count:
        raise DatasetError(f"{part}: expected a video, it has no frames")
    return count


def _images(
    source: Path, size: tuple[int, int] | None = None
) -> Iterator[tuple[Image, bytes | None]]:
    """Pixels of every frame in order, with the JPEG's bytes where it was one."""
    if source.is_dir():
        for k in range(count_files(source, ".jpg")):
            yield read_jpeg(source / f"{k}.jpg", size)
        return
    capture = cv2.VideoCapture(str(source))
    try:
        found, image = capture.read()
        if not found:
            raise DatasetError(f"{source}: expected a video, its first frame cannot be decoded")
        while found:
            yield image, None
            found, image = capture.read()
    finally:
        capture.release()


def _rectangles(path: Path, count: int) -> list[Rect]:
    try:
        entries: Any = json.loads(path.read_text())
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DatasetError(f"{path}: expected JSON: {error}") from error
    if not isinstance(entries, dict):
        raise DatasetError(
            f"{path}: expected an object of rectangles, got {type(entries).__name__}"
        )
    wanted = {str(k) for k in range(count)}
    for kind, keys in (("missing", wanted - entries.keys()), ("extra", entries.keys() - wanted)):
        if keys:
            some = ", ".join(sorted(keys, key=lambda k: (len(k), k))[:3])
            raise DatasetError(
                f"{path}: expected rectangles '0' to '{count - 1}', one a frame; {len(keys)} {kind}: {some}"
            )
    return [_rectangle(path, k, entries[str(k)]) for k in range(count)]


def _rectangle(path: Path, k: int, entry: Any) -> Rect:
    rect = entry.get("rect") if isinstance(entry, dict) else None
    numbers = isinstance(rect, list) and len(rect) == 4
    if not numbers or not all(isinstance(v, int | float) and v == int(v) for v in rect or ()):
        raise DatasetError(f"{path}: '{k}': expected {{\"rect\": [x1,y1,x2,y2]}}, got {entry!r}")
    x1, y1, x2, y2 = (int(v) for v in rect or ())
    return x1, y1, x2, y2
