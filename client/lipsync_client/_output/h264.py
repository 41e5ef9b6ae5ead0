"""H.264 video: the server's access units, unchanged."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
from av.container import OutputContainer

from .._errors import ServerError
from ..protocol import FPS
from .tracks import Packet

_IDR, _NON_IDR = 5, 1  # types of the NAL units that hold a slice


class H264Video:
    """Packets from access units: bytes in Annex B, one per frame; None repeats the frame before."""

    def __init__(self) -> None:
        self._stream: av.VideoStream | None = None
        self._count = 0

    def begin(self, container: OutputContainer, first: bytes) -> None:
        """Add the stream to the container, with the parameter sets of the first access unit.

        Raises:
            ServerError: decoding cannot begin with that access unit.
        """
        try:
            with av.open(io.BytesIO(first), "r", format="h264") as probe:
                self._stream = container.add_stream_from_template(probe.streams.video[0])
        except (av.FFmpegError, IndexError) as e:
            raise ServerError("the server's H264 output does not begin with a keyframe") from e
        self._stream.time_base = Fraction(1, FPS)

    def packets(self, frames: Iterable[bytes | None]) -> Iterator[Packet]:
        """Yield one packet for each access unit."""
        assert self._stream is not None
        for unit in frames:
            if unit is None:
                self._count += 1
                continue
            packet = av.Packet(unit)
            packet.stream, packet.time_base = self._stream, Fraction(1, FPS)
            packet.pts = packet.dts = self._count
            packet.duration = 1
            packet.is_keyframe = is_idr(unit)
            self._count += 1
            yield packet

    def flush(self) -> Iterable[Packet]:
        """Return nothing: no packet is held back."""
        return ()


def is_idr(unit: bytes) -> bool:
    """Return whether decoding can begin with this Annex-B access unit."""
    at = unit.find(b"\0\0\1")
    while at >= 0 and at + 3 < len(unit):
        nal_type = unit[at + 3] & 31
        if nal_type in (_IDR, _NON_IDR):
            return nal_type == _IDR
        at = unit.find(b"\0\0\1", at + 3)
    return False
