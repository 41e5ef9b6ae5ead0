"""GIF and animated WebP: small, silent, for a page or a message."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.filter import Graph

from .._errors import OutputError, ServerError
from ..protocol import FPS
from .formats import OutputFormat

_ENCODERS = {"gif": ("gif", "pal8"), "webp": ("libwebp_anim", "bgra")}


class PreviewWriter:
    """Writes every so many-th of the server's JPEGs, scaled down.

    A GIF is written as it comes. A WebP's encoder keeps the compressed pictures until the end.

    Args:
        path: the file, written in place.
        form: gif or webp, with fps and width.
    """

    def __init__(self, path: Path, form: OutputFormat) -> None:
        self._path, self._form = path, form
        self._rate = Fraction(form.fps).limit_denominator(1000)
        self._container = av.open(str(path), "w", format=form.kind.muxer, options=form.kind.options)
        self._jpeg: Any = av.CodecContext.create("mjpeg", "r")
        self._graph: Any = Graph()
        self._stream: Any = None
        self._seen = self._shown = 0

    def pictures(self, frames: Any) -> None:
        """Add frames: bytes, a JPEG each."""
        for jpeg in frames:
            # Picture k of the preview is the one that the video shows at k / fps.
            if self._seen == int(self._shown * FPS / self._rate):
                self._show(jpeg)
                self._shown += 1
            self._seen += 1

    def close(self) -> None:
        try:
            if self._stream is not None:
                self._graph.push(None)
                self._encode_ready()
                self._container.mux(self._stream.encode(None))
            self._container.close()
        except (av.FFmpegError, OSError) as e:
            raise self._failed(e) from e

    def abort(self) -> None:
        try:
            self._container.close()
        except (av.FFmpegError, OSError):
            return  # it failed before, and said why then

    def _show(self, jpeg: bytes) -> None:
        try:
            (frame,) = self._jpeg.decode(av.Packet(jpeg))
        except (av.FFmpegError, ValueError) as e:
            raise ServerError("the server's JPEG is none") from e
        try:
            if self._stream is None:
                self._begin(frame)
            frame.pts, frame.time_base = self._shown, 1 / self._rate
            self._graph.push(frame)
            self._encode_ready()
        except (av.FFmpegError, OSError) as e:
            raise self._failed(e) from e

    def _begin(self, frame: av.VideoFrame) -> None:
        """The stream, and the way to it: scaled, and for GIF a palette of each picture's own."""
        width = min(self._form.width, frame.width)
        height = max(1, round(frame.height * width / frame.width))
        encoder, pixels = _ENCODERS[self._form.name]
        graph = self._graph
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=1 / self._rate
        )
        scale = graph.add("scale", f"{width}:{height}:flags=lanczos:in_range=pc")
        bgra = graph.add("format", "bgra")
        source.link_to(scale)
        scale.link_to(bgra)
        sink = graph.add("buffersink")
        if pixels == "pal8":
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
        self._stream = self._container.add_stream(encoder, rate=self._rate)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = pixels
        self._stream.time_base = 1 / self._rate

    def _encode_ready(self) -> None:
        """Encode what the filters give."""
        while True:
            try:
                frame = self._graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return
            self._container.mux(self._stream.encode(frame))

    def _failed(self, e: Exception) -> OutputError:
        return OutputError(f"{self._path} cannot be written: {getattr(e, 'strerror', None) or e}")
