"""Frames as they are: into a folder of pictures, or raw, one after the other."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from .._errors import OutputError
from ..protocol import FPS
from .pipe import Pipe


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

    def close(self) -> None:
        """Nothing is left to do."""

    def abort(self) -> None:
        """Nothing is left to do; the folder will be thrown away."""


class RawWriter:
    """Writes frames with nothing between them, as ffmpeg's rawvideo reads them.

    Args:
        target: the file, or a pipe.
        name: bgr24 or rgb24.
    """

    def __init__(self, target: Path | Pipe, name: str) -> None:
        self._name, self._rgb = str(target), name == "rgb24"
        self._file: Any = target.open("wb") if isinstance(target, Path) else target

    def pictures(self, frames: NDArray[np.uint8]) -> None:
        """Add frames: uint8 (n, H, W, 3) BGR."""
        for frame in frames:
            part = np.ascontiguousarray(frame[:, :, ::-1] if self._rgb else frame)
            try:
                self._file.write(part.data)
            except OSError as e:
                raise OutputError(f"{self._name} cannot be written: {e.strerror}") from e

    def close(self) -> None:
        try:
            if not isinstance(self._file, Pipe):
                self._file.close()
        except OSError as e:
            raise OutputError(f"{self._name} cannot be written: {e.strerror}") from e

    def abort(self) -> None:
        with suppress(OutputError):
            self.close()


def png(frame: NDArray[np.uint8]) -> bytes:
    """One PNG of a uint8 (H, W, 3) BGR frame."""
    context: Any = av.CodecContext.create("png", "w")
    context.height, context.width = frame.shape[:2]
    context.pix_fmt = "rgb24"
    context.time_base = Fraction(1, FPS)
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:, :, ::-1]), format="rgb24")
    return b"".join(bytes(packet) for packet in [*context.encode(picture), *context.encode(None)])
