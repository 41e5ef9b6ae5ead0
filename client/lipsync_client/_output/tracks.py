"""The two halves of a container: the interfaces of its video track and its audio track."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any, Protocol, TypeAlias

import av
from av.container import OutputContainer

Packet: TypeAlias = "av.Packet[Any]"  # of a video or an audio stream


class VideoTrack(Protocol):
    """A source of video packets, made from the frames that the server sends."""

    def begin(self, container: OutputContainer, first: Any) -> None:
        """Add the stream to the container; `first` is the first frame."""

    def packets(self, frames: Iterable[Any]) -> Iterable[Packet]:
        """Take more frames and return the packets that are ready."""

    def flush(self) -> Iterable[Packet]:
        """Return the packets that an encoder still holds."""


class AudioTrack(Protocol):
    """A source of audio packets whose times count from the clip's first sample.

    What an encoder puts before the first sample has negative times.

    Attributes:
        delay_in_header: whether the stream's header tells a muxer how long that delay is.
    """

    delay_in_header: bool

    def begin(self, container: OutputContainer) -> av.AudioStream:
        """Add the stream to the container and return it."""

    def add_frame(self, frame: av.AudioFrame) -> None:
        """Take the clip's next decoded samples: float32, planar."""

    def packets(self, end_s: Fraction) -> Iterator[Packet]:
        """Yield the packets that are ready and end at `end_s` seconds or before, each once."""

    def flush(self, end_s: Fraction) -> None:
        """Note that no more frames come, and that the video ends at `end_s` seconds."""


def start_time(packet: Packet) -> Fraction:
    """Return the start of a packet in seconds."""
    assert packet.pts is not None
    return packet.pts * packet.time_base


def end_time(packet: Packet) -> Fraction:
    """Return the end of a packet in seconds."""
    assert packet.pts is not None
    return (packet.pts + (packet.duration or 0)) * packet.time_base
