"""Frames without a container: a folder of images, or raw frames one after the other."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from numpy.typing import NDArray

from .._errors import OutputError
from ..protocol import FPS
from .pipe import Pipe


class FrameWriter:
    """A writer of 000000.png … or 000000.jpg … into a folder.

    PNG files hold the frames exactly; JPEG files are the server's own, byte for byte.

    Args:
        folder: the folder; it exists.
        name: png or jpg.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._count = 0

    def write(self, frames: NDArray[np.generic]) -> None:
        """Write frames: uint8 (n, H, W, 3) BGR for PNG, else an array of n JPEGs as bytes."""
        for frame in frames:
            data = png(frame) if self._name == "png" else frame
            path = self._folder / f"{self._count:06d}.{self._name}"
            try:
                path.write_bytes(data)
            except OSError as e:
                raise OutputError(f"{path} cannot be written: {e.strerror}") from e
            self._count += 1

    def close(self) -> None:
        """Do nothing: every file is complete."""

    def abort(self) -> None:
        """Do nothing: the folder is deleted by its owner."""


class RawWriter:
    """A writer of frames without anything between them, as ffmpeg's rawvideo demuxer reads them.

    Args:
        target: a file or a pipe.
        name: bgr24 or rgb24.
    """

    def __init__(self, target: Path | Pipe, name: str) -> None:
        self._name, self._rgb = str(target), name == "rgb24"
        self._target: BinaryIO | Pipe = target.open("wb") if isinstance(target, Path) else target

    def write(self, frames: NDArray[np.generic]) -> None:
        """Write frames: uint8 (n, H, W, 3) BGR."""
        for frame in frames:
            pixels = np.ascontiguousarray(frame[:, :, ::-1] if self._rgb else frame)
            try:
                self._target.write(pixels.data)
            except OSError as e:
                raise OutputError(f"{self._name} cannot be written: {e.strerror}") from e

    def close(self) -> None:
        """Write what is buffered."""
        try:
            if not isinstance(self._target, Pipe):
                self._target.close()
        except OSError as e:
            raise OutputError(f"{self._name} cannot be written: {e.strerror}") from e

    def abort(self) -> None:
        """Close a file that will be deleted."""
        with suppress(OutputError):
            self.close()


def png(frame: NDArray[np.uint8]) -> bytes:
    """Return a PNG of a uint8 (H, W, 3) BGR frame."""
    context = av.VideoCodecContext.create("png", "w")
    context.height, context.width = frame.shape[:2]
    context.pix_fmt = "rgb24"
    context.time_base = Fraction(1, FPS)
    image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:, :, ::-1]), format="rgb24")
    return b"".join(bytes(packet) for packet in [*context.encode(image), *context.encode(None)])
