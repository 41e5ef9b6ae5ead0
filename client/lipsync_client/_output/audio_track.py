"""The sound of an output: the clip's own packets, or its samples encoded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
from av.bitstream import BitStreamFilterContext

from .._errors import InputError
from ..protocol import MIN_SAMPLES, SAMPLE_RATE
from .formats import ContainerSpec, FormatError, OutputFormat

# What AAC and Opus can be sampled at; anything else is resampled to 48 kHz.
_RATES = {
    "aac": (
        7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000,
    ),
    "libopus": (48000,),  # it knows others, but is decoded at this one whatever it was
}  # fmt: skip
_FALLBACK_RATE = 48_000
_LAYOUTS = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1", "7.1")
_BITS_A_CHANNEL = {"aac": 96_000, "libopus": 64_000}
_JITTER_S = Fraction(2, 1000)  # of time stamps in a container that counts milliseconds
_DRIFT_S = Fraction(1, 50)  # of its clock against its samples: half a frame
_SHORTEST_S = Fraction(MIN_SAMPLES, SAMPLE_RATE)  # a shorter clip is filled up with silence


class Sound(Protocol):
    """Packets with their times from the clip's first sample on; an encoder's delay lies before 0.

    Attributes:
        delay_in_header: the stream's header tells a muxer how long that delay is.
    """

    delay_in_header: bool

    def add_to(self, container: Any) -> Any:
        """Make the stream, and return it."""

    def frame(self, frame: av.AudioFrame) -> None:
        """The clip's decoded sound: float planar frames, in order."""

    def packets(self, end: Fraction) -> Iterator[av.Packet[Any]]:
        """Those that are there and end by `end`, in seconds; each once."""

    def finish(self, end: Fraction) -> None:
        """All frames have come; the picture ends at `end`."""


class EncodedSound:
    """AAC or Opus made of the samples as they are read, so memory does not grow with the clip."""

    delay_in_header = True

    def __init__(self, encoder: str, sample_rate: int, layout: str) -> None:
        self._encoder = encoder
        self._rate = sample_rate if sample_rate in _RATES[encoder] else _FALLBACK_RATE
        self._layout = layout if layout in _LAYOUTS else "stereo"
        self._source = (sample_rate, layout)
        self._samples = 0
        self._ready: deque[av.Packet[Any]] = deque()

    def add_to(self, container: Any) -> Any:
        self._stream = container.add_stream(self._encoder, rate=self._rate)
        self._stream.layout = self._layout
        channels = len(self._stream.layout.channels)
        self._stream.bit_rate = _BITS_A_CHANNEL[self._encoder] * channels
        return self._stream

    def frame(self, frame: av.AudioFrame) -> None:
        frame.pts, frame.time_base = self._samples, Fraction(1, frame.sample_rate)
        self._samples += frame.samples
        self._ready.extend(self._stream.encode(frame))

    def packets(self, end: Fraction) -> Iterator[av.Packet[Any]]:
        while self._ready and finish(self._ready[0]) <= end:
            yield self._ready.popleft()

    def finish(self, end: Fraction) -> None:
        rate, layout = self._source
        missing = int(end * rate) - self._samples
        if missing > 0:  # a clip of a moment: the picture has its four frames all the same
            channels = len(av.AudioLayout(layout).channels)
            silence = np.zeros((channels, missing), np.float32)
            frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout=layout)
            frame.sample_rate = rate
            self.frame(frame)
        self._ready.extend(self._stream.encode(None))


class CopiedSound:
    """The file's own packets, read a second time beside the decoding, not a bit changed.

    Raises:
        InputError: they cannot be laid beside the picture: the message says why.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._origin = self._checked()
        self._container = av.open(str(path))
        self._source = self._container.streams.audio[0]
        context = self._source.codec_context
        self._filter: BitStreamFilterContext | None = None
        if context.codec.canonical_name == "aac" and not context.extradata:
            self._header = _aac_header(path)
            self._filter = BitStreamFilterContext("aac_adtstoasc", self._source)
        matroska = "matroska" in self._container.format.name
        self.delay_in_header = matroska or context.codec.canonical_name == "opus"
        self._packets = self._read()
        self._next: av.Packet[Any] | None = None
        self._stream: Any = None

    def add_to(self, container: Any) -> Any:
        self._stream = container.add_stream_from_template(self._source)
        if self._filter is not None:
            self._stream.codec_context.extradata = self._header
        return self._stream

    def frame(self, frame: av.AudioFrame) -> None:
        """Only the server hears it."""

    def packets(self, end: Fraction) -> Iterator[av.Packet[Any]]:
        while True:
            if self._next is None:
                self._next = next(self._packets, None)
            if self._next is None or finish(self._next) > end:
                return
            packet, self._next = self._next, None
            yield packet

    def finish(self, end: Fraction) -> None:
        """Nothing is left to do."""

    def close(self) -> None:
        self._container.close()

    def _read(self) -> Iterator[av.Packet[Any]]:
        for source in self._container.demux(self._source):
            if not source.size or source.pts is None:
                continue
            pts, duration, base = source.pts, source.duration, source.time_base
            data = source if self._filter is None else self._filter.filter(source)[0]
            packet = av.Packet(bytes(data))
            packet.stream, packet.time_base = self._stream, base
            packet.pts = packet.dts = pts - round(self._origin / base)
            packet.duration = duration
            packet.is_keyframe = True
            yield packet

    def _checked(self) -> Fraction:
        """Time in the file, seconds, of the first sample that is played."""
        try:
            with av.open(str(self._path)) as container:
                first = next((f for f in container.decode(audio=0) if f.samples), None)
                if first is None or first.pts is None or first.time_base is None:
                    raise InputError(f"{self._path}: the sound has no time stamps")
                origin: Fraction = first.pts * first.time_base
            with av.open(str(self._path)) as container:
                end = self._checked_clock(container)
        except av.FFmpegError as e:
            raise InputError(f"{self._path}: the sound cannot be read ({e.strerror})") from e
        if end - origin < _SHORTEST_S:
            raise InputError(f"{self._path}: the sound is shorter than {float(_SHORTEST_S)} s")
        return origin

    def _checked_clock(self, container: Any) -> Fraction:
        """Its end in seconds, if packet follows packet: the decoded sound has no gaps either."""
        stream = container.streams.audio[0]
        size, rate = stream.codec_context.frame_size, stream.codec_context.sample_rate
        end = first = None
        for n, packet in enumerate(p for p in container.demux(stream) if p.size):
            if packet.pts is None or packet.is_corrupt:
                raise InputError(f"{self._path}: packet {n} of the sound is damaged")
            at = begin(packet)
            first = at if first is None else first
            jump = 0 if end is None else abs(at - end)
            if n == 1:  # Matroska does not give the first one's length
                jump = 0
            drift = abs(at - first - Fraction(n * size, rate)) if size else 0
            if jump > _JITTER_S or drift > _DRIFT_S:
                raise InputError(
                    f"{self._path}: the sound has a gap at {float(at):.3f} s, so that it would"
                    " leave the picture"
                )
            end = finish(packet)
        if end is None:
            raise InputError(f"{self._path}: the sound in this file is empty")
        return Fraction(end)


def begin(packet: Any) -> Fraction:
    """When a packet begins, seconds."""
    return Fraction(packet.pts * packet.time_base)


def finish(packet: Any) -> Fraction:
    """When a packet ends, seconds."""
    return Fraction((packet.pts + (packet.duration or 0)) * packet.time_base)


def _aac_header(path: Path) -> bytes:
    """What AAC has in front of each packet in ADTS and in MPEG-TS, as a container wants it: once.

    Raises:
        InputError: it is not there.
    """
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        filtered = BitStreamFilterContext("aac_adtstoasc", stream)
        for packet in container.demux(stream):
            for out in filtered.filter(packet):
                if out.has_sidedata("new_extradata"):
                    return bytes(out.get_sidedata("new_extradata"))
            break
    raise InputError(f"{path}: the AAC in this file has no header")


def sound_for(form: OutputFormat, path: Path, codec: str, sample_rate: int, layout: str) -> Sound:
    """The sound as `form` wants it.

    Args:
        form: of a container with sound.
        path: the clip.
        codec: its codec, FFmpeg's name.
        sample_rate, layout: of the frames that will come.

    Raises:
        FormatError: "copy", but the container cannot hold this codec.
        InputError: "copy", but the packets cannot be laid beside the picture.
    """
    kind = form.kind
    if form.audio != "aac" and codec in kind.copies and path.is_file():
        try:
            return CopiedSound(path)
        except InputError:
            if form.audio == "copy":
                raise
    if form.audio == "copy":
        check_copy(form, path, codec)
        raise InputError(f"{path}: only a regular file's sound can be copied")
    return EncodedSound(_encoder(kind), sample_rate, layout)


def check_copy(form: OutputFormat, path: Path, codec: str) -> None:
    """Refuse to copy what the container cannot hold.

    Raises:
        FormatError: names the codecs that it holds.
    """
    if form.audio == "copy" and codec not in form.kind.copies:
        raise FormatError(
            f"{path}: its sound is {codec}, and {form.name} takes only"
            f" {', '.join(sorted(form.kind.copies))} as it is; audio auto encodes it"
        )


def _encoder(kind: ContainerSpec) -> str:
    if kind.encodes is None:
        raise FormatError("this output has no sound")
    return kind.encodes
