"""VP9 video, encoded by the client because the server makes H.264 only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray

from ..protocol import FPS
from .tracks import Packet

CRF = 32  # the default, on VP9's own scale from 0 to 63


class Vp9Video:
    """A VP9 encoder of uint8 (H, W, 3) BGR frames.

    An odd last row or column is dropped, as in the server's H.264.

    Args:
        options: crf (0 to 63) and keyint (frames), both optional.
    """

    def __init__(self, options: Mapping[str, str | int | bool]) -> None:
        self._crf = int(options.get("crf", CRF))
        self._keyint = options.get("keyint")
        self._stream: av.VideoStream | None = None
        self._count = 0

    def begin(self, container: OutputContainer, first: NDArray[np.uint8]) -> None:
        """Add the stream to the container, in the size of the first frame."""
        stream = container.add_stream("libvpx-vp9", rate=FPS)
        stream.height, stream.width = (n & ~1 for n in first.shape[:2])
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, FPS)
        stream.bit_rate = 0  # so that crf alone decides the quality
        context = stream.codec_context
        context.color_range = ColorRange.MPEG
        context.colorspace = Colorspace.SMPTE170M
        context.color_primaries = ColorPrimaries.SMPTE170M
        context.color_trc = ColorTrc.SMPTE170M
        context.options = {
            "crf": str(self._crf), "deadline": "good", "cpu-used": "5", "row-mt": "1",
        }  # fmt: skip
        if self._keyint is not None:
            context.gop_size = int(self._keyint)
        self._stream = stream

    def packets(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[Packet]:
        """Encode frames and yield the packets that are ready."""
        assert self._stream is not None
        height, width = self._stream.height, self._stream.width
        for bgr in frames:
            even = np.ascontiguousarray(bgr[:height, :width])
            frame = av.VideoFrame.from_ndarray(even, format="bgr24").reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU601,
                dst_color_range=ColorRange.MPEG,
            )
            frame.pts, frame.time_base = self._count, Fraction(1, FPS)
            self._count += 1
            yield from self._stream.encode(frame)

    def flush(self) -> Iterable[Packet]:
        """Return the packets that the encoder still holds."""
        return self._stream.encode(None) if self._stream is not None else ()
