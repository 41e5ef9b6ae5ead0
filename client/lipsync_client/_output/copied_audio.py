"""An audio track that holds the clip's own packets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer

from .._audio.file import check_undamaged
from .._audio.track import Track
from .._errors import InputError
from ..protocol import MIN_SAMPLES, SAMPLE_RATE
from .tracks import Packet, end_time, start_time

_JITTER_S = Fraction(2, 1000)  # of time stamps in a container that counts milliseconds
_DRIFT_S = Fraction(1, 50)  # of a container's clock against its samples: half a frame
_SHORTEST_S = Fraction(MIN_SAMPLES, SAMPLE_RATE)  # a shorter clip is padded with silence


class CopiedAudio:
    """The clip's packets, read a second time beside the decoding and written unchanged.

    Args:
        path: the clip, a regular file.
        track: number of the audio track, as for AudioFile.

    Raises:
        InputError: a packet is damaged, or the packets' times do not follow the samples.
    """

    def __init__(self, path: Path, track: int | None) -> None:
        if not path.is_file():
            raise InputError(f"{path}: only the audio of a regular file can be copied")
        self._path = path
        self._origin_s = self._check(track)
        self._track = Track(path, track)
        self._source = self._track.stream
        context = self._source.codec_context
        self._filter: BitStreamFilterContext | None = None
        if context.codec.canonical_name == "aac" and not context.extradata:
            self._header = _aac_header(path, track)
            self._filter = BitStreamFilterContext("aac_adtstoasc", self._source)
        matroska = "matroska" in self._track.container.format.name
        self.delay_in_header = matroska or context.codec.canonical_name == "opus"
        self._packets = self._read()
        self._next: Packet | None = None

    def begin(self, container: OutputContainer) -> av.AudioStream:
        self._stream = container.add_stream_from_template(self._source)
        if self._filter is not None:
            self._stream.codec_context.extradata = self._header
        return self._stream

    def add_frame(self, frame: av.AudioFrame) -> None:
        """Do nothing: only the server needs the samples."""

    def packets(self, end_s: Fraction) -> Iterator[Packet]:
        while True:
            if self._next is None:
                self._next = next(self._packets, None)
            if self._next is None or end_time(self._next) > end_s:
                return
            packet, self._next = self._next, None
            yield packet

    def flush(self, end_s: Fraction) -> None:
        """Do nothing: no packet depends on the end of the video."""

    def close(self) -> None:
        """Close the clip."""
        self._track.close()

    def _read(self) -> Iterator[Packet]:
        for source in self._track.container.demux(self._source):
            if not source.size or source.pts is None:
                continue
            pts, duration, base = source.pts, source.duration, source.time_base
            data = source if self._filter is None else self._filter.filter(source)[0]
            packet = av.Packet(bytes(data))
            packet.stream, packet.time_base = self._stream, base
            packet.pts = packet.dts = pts - round(self._origin_s / base)
            packet.duration = duration
            packet.is_keyframe = True
            yield packet

    def _check(self, track: int | None) -> Fraction:
        """Return the time in the file, in seconds, of the first sample that is played."""
        decoder = check_undamaged(self._path, track)
        if decoder.origin_s is None:
            raise InputError(f"{self._path}: the audio has no time stamps")
        if len(decoder.formats) > 1:
            raise InputError(
                f"{self._path}: the sample rate or the layout changes within the audio"
            )
        if decoder.end_s < _SHORTEST_S:
            raise InputError(f"{self._path}: the audio is shorter than {float(_SHORTEST_S)} s")
        with closing(Track(self._path, track)) as opened:
            self._check_clock(opened)
        return decoder.origin_s

    def _check_clock(self, track: Track) -> None:
        """Raise InputError unless each packet begins where the one before ends."""
        context = track.stream.codec_context
        size, rate = context.frame_size, context.sample_rate
        first = end = None
        for n, packet in enumerate(p for p in track.container.demux(track.stream) if p.size):
            if packet.pts is None:
                raise InputError(f"{self._path}: packet {n} of the audio has no time stamp")
            start = start_time(packet)
            first = start if first is None else first
            # Matroska does not store the length of the first packet.
            jump = abs(start - end) if end is not None and n > 1 else 0
            drift = abs(start - first - Fraction(n * size, rate)) if size else 0
            if jump > _JITTER_S or drift > _DRIFT_S:
                raise InputError(
                    f"{self._path}: the audio has a gap at {float(start):.3f} s, after which its own"
                    " packets would not be in step with the video"
                )
            end = end_time(packet)


def _aac_header(path: Path, track: int | None) -> bytes:
    """Return, in the form that containers store once, what precedes each AAC packet in ADTS and MPEG-TS.

    Raises:
        InputError: the file holds no such header.
    """
    with closing(Track(path, track)) as opened:
        filtered = BitStreamFilterContext("aac_adtstoasc", opened.stream)
        for packet in opened.container.demux(opened.stream):
            for out in filtered.filter(packet):
                if out.has_sidedata("new_extradata"):
                    return bytes(out.get_sidedata("new_extradata"))
            break
    raise InputError(f"{path}: the AAC in this file has no header")
