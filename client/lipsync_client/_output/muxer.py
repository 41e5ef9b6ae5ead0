"""Pictures and sound into one container, in step."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av

from .._errors import LipSyncError, OutputError, ServerError
from ..protocol import FPS
from .audio_track import Sound, begin, finish
from .formats import ContainerSpec
from .pipe import Pipe

_AAC_FRAME = 1024  # samples
_EVER = 3600  # seconds, longer than any packet
_IDR, _SLICE = 5, 1  # NAL unit types


class Video(Protocol):
    """Makes packets of what the server sent."""

    def begin(self, container: Any, first: Any) -> None:
        """Make the stream, of the shape of the first picture."""

    def packets(self, frames: Iterable[Any]) -> Iterable[av.Packet[Any]]:
        """Those that are ready after some more frames."""

    def rest(self) -> Iterable[av.Packet[Any]]:
        """What an encoder still held."""


class H264Units:
    """The server's access units as they are: bytes, one a frame, Annex B."""

    def __init__(self) -> None:
        self._stream: Any = None
        self._count = 0

    def begin(self, container: Any, first: bytes) -> None:
        try:
            with av.open(io.BytesIO(first), format="h264") as probe:
                self._stream = container.add_stream_from_template(probe.streams.video[0])
        except (av.FFmpegError, IndexError) as e:
            raise ServerError("the server's H264 does not begin with a decodable picture") from e
        self._stream.time_base = Fraction(1, FPS)

    def packets(self, frames: Iterable[bytes | None]) -> Iterable[av.Packet[Any]]:
        for unit in frames:
            if unit is None:  # a picture that was left out: the one before it stands
                self._count += 1
                continue
            packet = av.Packet(unit)
            packet.stream, packet.time_base = self._stream, Fraction(1, FPS)
            packet.pts = packet.dts = self._count
            packet.duration = 1
            packet.is_keyframe = is_idr(unit)
            self._count += 1
            yield packet

    def rest(self) -> Iterable[av.Packet[Any]]:
        return ()


def is_idr(unit: bytes) -> bool:
    """Whether an Annex-B access unit is a picture that decoding can begin with."""
    at = unit.find(b"\0\0\1")
    while at >= 0 and at + 3 < len(unit):
        kind = unit[at + 3] & 31
        if kind in (_IDR, _SLICE):
            return kind == _IDR
        at = unit.find(b"\0\0\1", at + 3)
    return False


class Muxer:
    """A container that takes pictures and sound as they come, both from 0 on.

    The sound goes in as far as the pictures have come, and ends with them: less than a frame and an
    AAC frame later. (The contract's count leaves the last 27 to 77 ms of a clip without a picture.)

    Args:
        target: the file, written in place, a network address, or a pipe.
        kind: which container.
        video: what makes packets of the frames.
        sound: what makes packets of the sound.
    """

    def __init__(
        self, target: Path | str | Pipe, kind: ContainerSpec, video: Video, sound: Sound
    ) -> None:
        self._name = str(target)
        self._video, self._sound = video, sound
        self._container = av.open(
            target if isinstance(target, Pipe) else str(target), "w",
            format=kind.muxer, options=kind.options,
        )  # fmt: skip
        self._context = sound.add_to(self._container).codec_context
        self._keeps_delay = kind.delay == "edits" or (kind.delay and sound.delay_in_header)
        self._frames = 0

    def pictures(self, frames: Any) -> None:
        """Add frames, as the video takes them."""
        if len(frames) and not self._frames:
            self._video.begin(self._container, frames[0])
        for frame in frames:
            self._write(self._sound.packets(self._end))
            self._write(self._video.packets([frame]))
            self._frames += 1

    def close(self) -> None:
        """Finish the file."""
        self._sound.finish(self._end)
        self._write(self._sound.packets(self._end))
        self._write(self._video.rest())
        self._write(self._tail())
        try:
            self._container.close()
        except (av.FFmpegError, OSError) as e:
            raise self._failed(e) from e

    def abort(self) -> None:
        """Let go of a file that will be thrown away."""
        try:
            self._container.close()
        except (av.FFmpegError, OSError, LipSyncError):
            return  # it failed before, and said why then

    @property
    def _end(self) -> Fraction:
        """Where the pictures end, seconds."""
        return Fraction(self._frames, FPS)

    def _tail(self) -> Iterable[av.Packet[Any]]:
        """Sound from the last picture's end on, as long as it may be."""
        limit = Fraction(1, FPS) + Fraction(_AAC_FRAME, self._context.sample_rate)
        nominal = Fraction(self._context.frame_size or 0, self._context.sample_rate)
        for packet in self._sound.packets(self._end + _EVER):
            from_end = begin(packet) - self._end
            # An encoder's last packet says how much of it is clip; players may play all of it.
            over = max(finish(packet) - self._end, from_end + nominal)
            # A long one (FLAC) that goes too far is left out only if that is the lesser evil.
            if over >= limit and over > -from_end:
                return
            yield packet

    def _write(self, packets: Iterable[av.Packet[Any]]) -> None:
        try:
            for packet in packets:
                # Without a way to say "skip this", what lies before 0 would move everything else.
                if self._keeps_delay or packet.pts is None or packet.pts >= 0:
                    self._container.mux(packet)
        except (av.FFmpegError, OSError) as e:
            raise self._failed(e) from e

    def _failed(self, e: Exception) -> OutputError:
        return OutputError(f"{self._name} cannot be written: {getattr(e, 'strerror', None) or e}")
