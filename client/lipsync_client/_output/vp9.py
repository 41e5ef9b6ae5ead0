"""VP9, encoded here: the server speaks H.264 only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray

from ..protocol import FPS

CRF = 32  # VP9's own scale, 0 to 63


class Vp9:
    """Encodes uint8 (H, W, 3) BGR frames; an odd last row or column goes, as in the server's H.264.

    Args:
        options: crf (0 to 63) and keyint (frames), if given.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._crf = int(options.get("crf", CRF))
        self._keyint = options.get("keyint")
        self._stream: Any = None
        self._count = 0

    def begin(self, container: Any, first: NDArray[np.uint8]) -> None:
        stream = container.add_stream("libvpx-vp9", rate=FPS)
        stream.height, stream.width = (n & ~1 for n in first.shape[:2])
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, FPS)
        stream.bit_rate = 0  # quality alone decides
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

    def packets(self, frames: Iterable[NDArray[np.uint8]]) -> Iterable[av.Packet[Any]]:
        for bgr in frames:
            even = np.ascontiguousarray(bgr[: self._stream.height, : self._stream.width])
            frame = av.VideoFrame.from_ndarray(even, format="bgr24").reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU601,
                dst_color_range=ColorRange.MPEG,
            )
            frame.pts, frame.time_base = self._count, Fraction(1, FPS)
            self._count += 1
            yield from self._stream.encode(frame)

    def rest(self) -> Iterable[av.Packet[Any]]:
        return self._stream.encode(None) if self._stream is not None else ()
