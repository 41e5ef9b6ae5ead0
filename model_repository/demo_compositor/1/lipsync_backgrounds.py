"""Decoded frames of an avatar: what equals the frame before it is kept once.

Most of an avatar's frame is a room that does not move. A frame is cut into units of 128 bytes (of a row, at
most sizes of frames); a unit that is the same in the frame before, bit for bit, is not kept again.

The memory that holds them:
    units    uint8 [N, 128]      of each frame, those that are new, and then those of its face region
    index    int32 [K, n + 1]    of each frame, the unit at each of its n places, and the first of its region
    sizes    int64 [3]           N, K, n + 1
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

UNIT = 128  # bytes
_SIZES = 3 * np.dtype(np.int64).itemsize


def write_backgrounds(
    file: BinaryIO, frames: Iterable[tuple[Image, Image]], budget: int, frame_bytes: int
) -> None:
    """Write frames until the budget, in bytes, is used.

    Args:
        frames: of each, the whole frame as I420 and its face region, uint8 of any shape.
        frame_bytes: of a whole frame.
    """
    places = -(-frame_bytes // UNIT)
    before: Image | None = None
    row = np.zeros(places + 1, np.int32)
    rows: list[NDArray[np.int32]] = []
    count = 0
    for frame, region in frames:
        units, face = _units(frame), _units(region)
        new = np.full(places, True) if before is None else (units != before).any(axis=1)
        fresh = np.count_nonzero(new)
        budget -= (fresh + len(face)) * UNIT + row.nbytes
        if budget < 0:
            break
        row = row.copy()
        row[:-1][new] = np.arange(count, count + fresh)
        row[-1] = count + fresh
        rows.append(row)
        file.write(units[new].tobytes())
        file.write(face.tobytes())
        count += fresh + len(face)
        before = units
    file.write(np.array(rows, np.int32).tobytes())
    file.write(np.array([count, len(rows), row.size], np.int64).tobytes())


class Backgrounds:
    """Frames that `write_backgrounds` wrote.

    Args:
        memory: uint8 (bytes,), what was written.
    """

    def __init__(self, memory: Image) -> None:
        count, frames, row = (int(size) for size in memory[-_SIZES:].view(np.int64))
        self._units = memory[: count * UNIT].reshape(count, UNIT)
        self._index = memory[count * UNIT : -_SIZES].view(np.int32).reshape(frames, row)

    def __len__(self) -> int:
        return len(self._index)

    def copy_frame(self, k: int, out: Image) -> None:
        """Write frame k into `out`, a contiguous uint8 array of the frame's size."""
        places = self._index[k, :-1]
        if out.size == places.size * UNIT:
            # Without a mode, `take` would write into a copy first.
            np.take(self._units, places, axis=0, out=out.reshape(-1, UNIT), mode="clip")
        else:
            out.reshape(-1)[:] = self._units[places].reshape(-1)[: out.size]

    def region(self, k: int, height: int, width: int) -> Image:
        """Return the face region of frame k, uint8 (height, width, 3); it cannot be written to."""
        first = int(self._index[k, -1])
        size = height * width * 3
        flat = self._units[first : first - (-size // UNIT)].reshape(-1)
        return flat[:size].reshape(height, width, 3)


def _units(image: Image) -> Image:
    """Return an image's bytes as uint8 (n, UNIT), with zeros at the end."""
    flat = image.reshape(-1)
    return np.pad(flat, (0, -flat.size % UNIT)).reshape(-1, UNIT)
