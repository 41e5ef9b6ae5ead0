"""The dataset folder a user of the training code has: frames, face rectangles, parsing masks.

Two layouts, told apart by what the folder holds: the raw one (`full_body_img/`, `landmarks/`,
perhaps `parsing/`) is read here, the packaged one in `packaged`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lipsync_preprocessing.errors import DatasetError
from lipsync_preprocessing.faces import Image, Rect, clip_rect, kept_pixels

Progress = Callable[[int, int], None]  # done, of how many

FRAMES, LANDMARKS, PARSING = "full_body_img", "landmarks", "parsing"
# The landmarks (of 110) that span the rectangle.
LEFT, RIGHT, TOP = 1, 31, 52
_WEBP_LOSSLESS = 101  # to OpenCV, a quality over 100
_JPEG_START_OF_SCAN, _JPEG_END = 0xDA, b"\xff\xd9"


@dataclass(frozen=True)
class Frame:
    """One frame: uint8 (H, W, 3) BGR, its rectangle inside it, its mask, and its file's bytes.

    `mask` is uint8 (h, w) of the rectangle's size, 255 where the original pixel stays.
    """

    image: Image
    rect: Rect
    mask: Image | None = None
    jpeg: bytes | None = None

    def encode(self) -> bytes:
        """The JPEG as it came, else a lossless WebP: nothing is lost either way."""
        return self.jpeg if self.jpeg is not None else encode_webp(self.image)


@dataclass(frozen=True)
class Dataset:
    """A dataset folder found in order; pixels are read when iterated.

    Attributes:
        rects: of each frame, clipped to it.
        read: yields every Frame in order, raising DatasetError at one that cannot be used.
    """

    directory: Path
    width: int
    height: int
    rects: list[Rect]
    has_masks: bool
    read: Callable[[], Iterator[Frame]]

    def __len__(self) -> int:
        return len(self.rects)

    def check(self, progress: Progress | None = None) -> None:
        """Decode every frame and mask; DatasetError at the first that cannot be used."""
        for done, _ in enumerate(self.read(), 1):
            if progress is not None:
                progress(done, len(self))


def read_dataset(directory: str | Path, *, parsing: bool = True) -> Dataset:
    """Read a dataset folder of either layout.

    Args:
        directory: the folder.
        parsing: use the parsing masks of a raw folder, if it has them.

    Raises:
        DatasetError: what is missing or wrong, in one line.
    """
    from lipsync_preprocessing.packaged import is_packaged, read_packaged  # needs Dataset

    directory = Path(directory)
    if not directory.is_dir():
        raise DatasetError(f"{directory}: expected a dataset folder, there is none")
    if (directory / FRAMES).is_dir():
        return read_raw(directory, parsing=parsing)
    if is_packaged(directory):
        return read_packaged(directory)
    raise DatasetError(
        f"{directory}: expected {FRAMES}/ and {LANDMARKS}/, or full_body_video.mp4 (or full_body/)"
        " and crop_rectangles.json; found neither"
    )


def read_raw(directory: str | Path, *, parsing: bool = True) -> Dataset:
    """Read `full_body_img/{k}.jpg`, `landmarks/{k}.lms` and, if there, `parsing/{k}.png`."""
    directory = Path(directory)
    frames, landmarks, masks = (directory / n for n in (FRAMES, LANDMARKS, PARSING))
    count = count_files(frames, ".jpg")
    for folder, suffix in ((landmarks, ".lms"), (masks, ".png")):
        if folder == masks and not (parsing and masks.is_dir()):
            continue
        came = count_files(folder, suffix)
        if came != count:
            raise DatasetError(
                f"{folder}: expected {count} files, as many as {frames.name}/ has frames, got {came}"
            )
    first, _ = read_jpeg(frames / "0.jpg")
    height, width = first.shape[:2]
    rects = []
    for k in range(count):
        path = landmarks / f"{k}.lms"
        rects.append(checked_rect(landmark_rect(path), width, height, str(path)))
    has_masks = parsing and masks.is_dir()

    def read() -> Iterator[Frame]:
        for k, rect in enumerate(rects):
            image, jpeg = read_jpeg(frames / f"{k}.jpg", (width, height))
            mask = None
            if has_masks:
                mask = kept_pixels(read_png(masks / f"{k}.png", (width, height)), rect)
            yield Frame(image, rect, mask, jpeg)

    return Dataset(directory, width, height, rects, has_masks, read)


def count_files(folder: Path, suffix: str) -> int:
    """Number of files 0{suffix}, 1{suffix}, …; DatasetError at a gap or another name."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: expected a folder of {{k}}{suffix}, there is none")
    names = [p.name for p in folder.iterdir() if not p.name.startswith(".")]
    numbers = set()
    for name in names:
        match = re.fullmatch(r"(0|[1-9]\d*)" + re.escape(suffix), name)
        if match:
            numbers.add(int(match[1]))
        elif name.lower().endswith((suffix, ".jpeg", ".jpg", ".png")):
            raise DatasetError(f"{folder / name}: expected names 0{suffix}, 1{suffix}, …")
    if not numbers:
        raise DatasetError(f"{folder}: expected files 0{suffix}, 1{suffix}, …, got none")
    missing = next((k for k in range(len(numbers)) if k not in numbers), None)
    if missing is not None:
        raise DatasetError(
            f"{folder / f'{missing}{suffix}'}: missing; the folder goes on to {max(numbers)}{suffix}"
        )
    return len(numbers)


def landmark_rect(path: Path) -> Rect:
    """The face square of a landmark file, not clipped.

    Coordinates are read as float32 and truncated, as the training code does.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: expected text, one 'x y' a line: {error}") from error
    needed = max(LEFT, RIGHT, TOP) + 1
    if len(lines) < needed:
        raise DatasetError(f"{path}: expected at least {needed} landmarks, got {len(lines)}")
    points = {}
    for n in (LEFT, RIGHT, TOP):
        try:
            x, y = (np.float32(word) for word in lines[n].split())
            points[n] = (int(x), int(y))
        except (ValueError, OverflowError) as error:
            raise DatasetError(f"{path}: line {n + 1}: expected 'x y', got {lines[n]!r}") from error
    x1, x2, y1 = points[LEFT][0], points[RIGHT][0], points[TOP][1]
    return x1, y1, x2, y1 + (x2 - x1)


def checked_rect(rect: Rect, width: int, height: int, where: str) -> Rect:
    """The rectangle clipped to the frame; DatasetError if it is empty or all outside."""
    x1, y1, x2, y2 = rect
    if x1 >= x2 or y1 >= y2:
        raise DatasetError(f"{where}: expected a rectangle x1<x2, y1<y2, got {list(rect)}")
    clipped = clip_rect(rect, width, height)
    if clipped is None:
        raise DatasetError(
            f"{where}: expected a rectangle in the {width}x{height} frame, got {list(rect)}"
        )
    return clipped


def read_jpeg(path: Path, size: tuple[int, int] | None = None) -> tuple[Image, bytes]:
    """A JPEG's pixels, uint8 (H, W, 3) BGR, and its bytes; `size` is the expected width, height."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    if not data.startswith(b"\xff\xd8"):
        raise DatasetError(f"{path}: expected a JPEG, got a file that starts {data[:8]!r}")
    if not _is_whole_jpeg(data):
        raise DatasetError(f"{path}: expected a whole JPEG, got {len(data)} bytes without its end")
    return _decode(path, data, size), data


def read_png(path: Path, size: tuple[int, int]) -> Image:
    """A parsing image's pixels, uint8 (H, W, 3) BGR."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    return _decode(path, data, size)


def encode_webp(image: Image) -> bytes:
    """Lossless WebP bytes of uint8 (H, W, 3) BGR."""
    ok, data = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, _WEBP_LOSSLESS])
    if not ok:
        raise ValueError(f"OpenCV cannot write a WebP of {image.dtype} {image.shape}")
    return bytes(data)


def encode_png(image: Image) -> bytes:
    """PNG bytes of uint8 (H, W, 3) BGR or (H, W)."""
    ok, data = cv2.imencode(".png", image)
    if not ok:
        raise ValueError(f"OpenCV cannot write a PNG of {image.dtype} {image.shape}")
    return bytes(data)


def _decode(path: Path, data: bytes, size: tuple[int, int] | None) -> Image:
    image: Image | None = None
    try:
        if data:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # a header of absurd size
        image = None
    if image is None:
        raise DatasetError(f"{path}: expected a picture, got {len(data)} bytes that are none")
    height, width = image.shape[:2]
    if size is not None and (width, height) != size:
        raise DatasetError(
            f"{path}: expected {size[0]}x{size[1]} pixels, as frame 0 has, got {width}x{height}"
        )
    return image


def _is_whole_jpeg(data: bytes) -> bool:
    """Whether an end marker follows the picture data (OpenCV fills a cut picture with grey)."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        if data[position + 1] == _JPEG_START_OF_SCAN:
            return data.find(_JPEG_END, position) >= 0
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False
