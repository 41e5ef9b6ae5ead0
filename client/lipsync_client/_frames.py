"""Frames into a folder of pictures."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ._errors import OutputError
from ._timeline import FPS

OUTPUT_OF = {"png": "FRAMES", "jpg": "JPEG"}  # what to ask the server for


class FrameWriter:
    """Writes 000000.png … or 000000.jpg … into a directory.

    PNGs hold the frames exactly; JPEGs are the server's own, byte for byte.
    """

    def __init__(self, directory: Path, kind: str) -> None:
        self._directory, self._kind = directory, kind
        self._count = 0

    def pictures(self, frames: NDArray[Any]) -> None:
        """Add frames: uint8 (n, H, W, 3) BGR for PNG, else n JPEGs as bytes."""
        for frame in frames:
            data = png(frame) if self._kind == "png" else frame
            path = self._directory / f"{self._count:06d}.{self._kind}"
            try:
                path.write_bytes(data)
            except OSError as e:
                raise OutputError(f"{path} cannot be written: {e.strerror}") from e
            self._count += 1


def png(frame: NDArray[np.uint8]) -> bytes:
    """One PNG of a uint8 (H, W, 3) BGR frame."""
    context: Any = av.CodecContext.create("png", "w")
    context.height, context.width = frame.shape[:2]
    context.pix_fmt = "rgb24"
    context.time_base = Fraction(1, FPS)
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:, :, ::-1]), format="rgb24")
    return b"".join(bytes(packet) for packet in [*context.encode(picture), *context.encode(None)])
