"""GIF and animated WebP: small previews without audio."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.filter import Graph
from numpy.typing import NDArray

from .._errors import OutputError, ServerError
from ..protocol import FPS
from .formats import OutputFormat

_ENCODERS = {"gif": ("gif", "pal8"), "webp": ("libwebp_anim", "bgra")}


class PreviewWriter:
    """A writer that scales some of the server's JPEGs down and writes them at a lower frame rate.

    A GIF is written as its frames come. The encoder of WebP keeps the compressed frames until the end.

    Args:
        path: the file; it is written in place.
        output_format: gif or webp, with fps and width.
    """

    def __init__(self, path: Path, output_format: OutputFormat) -> None:
        self._path, self._format = path, output_format
        self._rate = Fraction(output_format.fps).limit_denominator(1000)
        spec = output_format.spec
        self._container = av.open(
            str(path), "w", format=spec.muxer, options=dict(spec.muxer_options)
        )
        self._jpeg = av.VideoCodecContext.create("mjpeg", "r")
        self._graph = Graph()
        self._stream: av.VideoStream | None = None
        self._received = self._written = 0

    def write(self, frames: NDArray[np.generic]) -> None:
        """Write frames: an array of n JPEGs as bytes."""
        for jpeg in frames:
            # Frame k of the preview is the one that the video shows at k / fps.
            if self._received == int(self._written * FPS / self._rate):
                self._encode(jpeg)
                self._written += 1
            self._received += 1

    def close(self) -> None:
        """Finish the file."""
        try:
            if self._stream is not None:
                self._graph.push(None)
                self._mux_filtered(self._stream)
                self._container.mux(self._stream.encode(None))
            self._container.close()
        except (av.FFmpegError, OSError) as e:
            raise self._failure(e) from e

    def abort(self) -> None:
        """Close a file that will be deleted."""
        try:
            self._container.close()
        except (av.FFmpegError, OSError):
            return  # the error that led here has been raised already

    def _encode(self, jpeg: bytes) -> None:
        try:
            (frame,) = self._jpeg.decode(av.Packet(jpeg))
        except (av.FFmpegError, ValueError) as e:
            raise ServerError("the server's JPEG output cannot be decoded") from e
        try:
            if self._stream is None:
                self._stream = self._begin(frame)
            frame.pts, frame.time_base = self._written, 1 / self._rate
            self._graph.push(frame)
            self._mux_filtered(self._stream)
        except (av.FFmpegError, OSError) as e:
            raise self._failure(e) from e

    def _begin(self, frame: av.VideoFrame) -> av.VideoStream:
        """Add the stream and build its filters: scaling and, for GIF, a palette for each frame."""
        width = min(self._format.width, frame.width)
        height = max(1, round(frame.height * width / frame.width))
        encoder, pixel_format = _ENCODERS[self._format.name]
        graph = self._graph
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=1 / self._rate
        )
        scale = graph.add("scale", f"{width}:{height}:flags=lanczos:in_range=pc")
        bgra = graph.add("format", "bgra")
        source.link_to(scale)
        scale.link_to(bgra)
        sink = graph.add("buffersink")
        if pixel_format == "pal8":
            split = graph.add("split")
            palette = graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
            use = graph.add("paletteuse", "new=1:dither=sierra2_4a")
            bgra.link_to(split)
            split.link_to(palette, 0, 0)
            split.link_to(use, 1, 0)
            palette.link_to(use, 0, 1)
            use.link_to(sink)
        else:
            bgra.link_to(sink)
        graph.configure()
        stream = self._container.add_stream(encoder, rate=self._rate)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = width, height
        stream.pix_fmt = pixel_format
        stream.time_base = 1 / self._rate
        return stream

    def _mux_filtered(self, stream: av.VideoStream) -> None:
        """Encode and mux the frames that the filters have ready."""
        while True:
            try:
                frame = self._graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return
            self._container.mux(stream.encode(frame))

    def _failure(self, e: av.FFmpegError | OSError) -> OutputError:
        return OutputError(f"{self._path} cannot be written: {e.strerror or e}")
