"""Decoding and encoding of single images, with bounds that are checked before a pixel is decoded."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from lipsync_preprocessing.dataset.types import Image
from lipsync_preprocessing.errors import DatasetError
from lipsync_preprocessing.files import read_file

LARGEST_FILE_BYTES = 64 << 20
LARGEST_PIXELS = 7680 * 4320
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_START_OF_SCAN = 0xDA
# Start-of-frame markers; C4, C8 and CC have other meanings.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})


def read_jpeg(path: Path, size: tuple[int, int] | None = None) -> tuple[Image, bytes]:
    """Return a JPEG's pixels, uint8 (H, W, 3) BGR, and its bytes.

    Args:
        path: the file.
        size: the expected width and height.

    Raises:
        DatasetError: the file is no whole JPEG, is too large, or has another size.
    """
    data = read_file(path, LARGEST_FILE_BYTES, DatasetError)
    if not data.startswith(_JPEG_START):
        raise DatasetError(f"{path}: expected a JPEG, got a file that starts {data[:8]!r}")
    header = _jpeg_size(data)
    if header is None:
        raise DatasetError(f"{path}: expected a whole JPEG, got {len(data)} bytes without its end")
    return _decode(path, data, header, size), data


def read_png(path: Path, size: tuple[int, int]) -> Image:
    """Return a PNG's pixels, uint8 (H, W, 3) BGR; raise as `read_jpeg` does."""
    data = read_file(path, LARGEST_FILE_BYTES, DatasetError)
    if not data.startswith(_PNG_SIGNATURE) or len(data) < 24:
        raise DatasetError(f"{path}: expected a PNG, got {len(data)} bytes that start {data[:8]!r}")
    header = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    return _decode(path, data, header, size)


def encode_png(image: Image) -> bytes:
    """Return the PNG bytes of uint8 (H, W, 3) BGR or (H, W)."""
    ok, data = cv2.imencode(".png", image)
    if not ok:
        raise ValueError(f"OpenCV cannot write a PNG of {image.dtype} {image.shape}")
    return bytes(data)


def check_pixels(where: object, width: int, height: int) -> None:
    """Raise DatasetError if an image of this size is too large to decode."""
    if width * height > LARGEST_PIXELS:
        raise DatasetError(
            f"{where}: expected at most {LARGEST_PIXELS >> 20} megapixels, got {width}x{height}"
        )


def _decode(
    path: Path, data: bytes, header: tuple[int, int], size: tuple[int, int] | None
) -> Image:
    check_pixels(path, *header)
    image: Image | None
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise DatasetError(
            f"{path}: expected an image, but its {len(data)} bytes cannot be decoded"
        )
    height, width = image.shape[:2]
    if size is not None and (width, height) != size:
        raise DatasetError(
            f"{path}: expected {size[0]}x{size[1]} pixels, the first frame's size, got {width}x{height}"
        )
    return image


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return the width and height that a JPEG's header states; None if the file is cut.

    The end marker must follow the image data: OpenCV fills a cut image with grey.
    """
    size: tuple[int, int] | None = None
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker in _WITHOUT_LENGTH:
            position += 2
            continue
        if marker == _START_OF_SCAN:
            return size if data.find(_JPEG_END, position) >= 0 else None
        if marker in _START_OF_FRAME and position + 9 <= len(data):
            height = int.from_bytes(data[position + 5 : position + 7], "big")
            width = int.from_bytes(data[position + 7 : position + 9], "big")
            size = width, height
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None
