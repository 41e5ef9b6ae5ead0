"""The samples of a track, with silence in the place of what cannot be decoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from .track import Track, layout_name

# A shorter jump of the file's clock is its imprecision, a longer one an error of it. The clocks of formats
# that are used for live recordings are the least precise.
_SHORTEST_GAP_S, _SHORTEST_GAP_IN_RECORDINGS_S = Fraction(1, 25), Fraction(1, 10)
_LONGEST_GAP_S = 60
_RECORDINGS = ("matroska,webm", "mpegts", "flv")
_SHORTEST_CUT_S = Fraction(
    1, 4
)  # a file that ends this much before the end that its header states is cut
# The formats whose headers state the length of a track, or of the whole file, exactly.
_TRACK_LENGTH = ("flac", "mov,mp4,m4a,3gp,3g2,mj2")
_FILE_LENGTH = ("matroska,webm",)


@dataclass(frozen=True)
class Damage:
    """A part of a clip that could not be decoded, or not whole.

    Attributes:
        start_s: start of the part in seconds from the first sample.
        text: the start, the length, the reason, and what takes its place.
    """

    start_s: float
    text: str


class Decoder:
    """The decoded samples of a track, whose time is kept: silence takes the place of what is lost.

    Args:
        track: an open track.

    Attributes:
        damage: what could not be decoded, in order.
        formats: sample rates and channel layouts that occurred, in order.
        origin_s: time in the file of the first sample, in seconds; None before it, or if it has none.
        end_s: seconds that were decoded so far.
    """

    def __init__(self, track: Track) -> None:
        self.damage: list[Damage] = []
        self.formats: list[tuple[int, str]] = []
        self.origin_s: Fraction | None = None
        self.end_s = Fraction(0)
        self._track = track
        context = track.stream.codec_context
        self._rate, self._layout = context.sample_rate, layout_name(context)
        self._opened_rate = context.sample_rate
        self._format = track.container.format.name
        recording = self._format in _RECORDINGS
        self._shortest_gap_s = _SHORTEST_GAP_IN_RECORDINGS_S if recording else _SHORTEST_GAP_S
        self._clock: Fraction | None = None  # the file's time at which the next frame is expected
        self._lost_s, self._reason = Fraction(0), ""
        self._resampler: av.AudioResampler | None = None

    def frames(self) -> Iterator[av.AudioFrame]:
        """Yield the frames: float32, planar, each with its own rate and layout."""
        for packet in self._packets():
            try:
                frames = packet.decode()
            except av.FFmpegError as e:
                self._lose(packet, str(e.strerror))
                continue
            for frame in frames:
                if frame.samples:
                    yield from self._frame(frame, damaged=packet.is_corrupt or frame.is_corrupt)
        if self._lost_s:
            yield from self._silence(self._lost_s, self._reason)
        if not self.end_s:
            return
        stated = self._stated_length_s()
        if stated is not None and stated - self.end_s > _SHORTEST_CUT_S:
            self._note(
                f"the audio ends at {float(self.end_s):.3f} s, but the header of the file states"
                f" {float(stated):.3f} s"
            )

    def _packets(self) -> Iterator[av.Packet[av.AudioStream]]:
        packets = self._track.container.demux(self._track.stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as e:
                self._note(
                    f"the file cannot be read after {float(self.end_s):.3f} s ({e.strerror})"
                )
                return
            if packet is None:
                return
            yield packet

    def _lose(self, packet: av.Packet[av.AudioStream], reason: str) -> None:
        context = self._track.stream.codec_context
        if packet.duration:
            self._lost_s += packet.duration * packet.time_base
        else:
            self._lost_s += Fraction(context.frame_size or 0, context.sample_rate)
        self._reason = f"cannot be decoded ({reason})"
        if self.origin_s is None and packet.pts is not None:
            self.origin_s = self._clock = max(Fraction(0), packet.pts * packet.time_base)

    def _frame(self, frame: av.AudioFrame, damaged: bool) -> Iterator[av.AudioFrame]:
        time = None
        if frame.pts is not None and frame.time_base is not None:
            time = frame.pts * frame.time_base
        if self.origin_s is None:
            self.origin_s = time
        properties = (frame.sample_rate, layout_name(frame))
        # Some demuxers count the packets' times with the rate of the first ones, whatever comes later.
        reliable = frame.sample_rate == self._opened_rate
        yield from self._fill_gap(time if reliable else None)
        if self._resampler is None or properties != (self._rate, self._layout):
            self._rate, self._layout = properties
            self._resampler = av.AudioResampler("fltp", self._layout, self._rate)
        if not self.formats or properties != self.formats[-1]:
            self.formats.append(properties)
        length = Fraction(frame.samples, frame.sample_rate)
        if damaged:
            self._note(
                f"{float(length):.3f} s of audio at {float(self.end_s):.3f} s are damaged, and were"
                " decoded as far as possible"
            )
        self._clock = time if time is not None else self._clock
        self._clock = None if self._clock is None or not reliable else self._clock + length
        frame.pts = None
        for part in self._resampler.resample(frame):
            self.end_s += Fraction(part.samples, part.sample_rate)
            yield part

    def _fill_gap(self, time: Fraction | None) -> Iterator[av.AudioFrame]:
        """Yield silence before a frame that begins at `time`, as far as something is missing."""
        jump = None if time is None or self._clock is None else time - self._clock
        if jump is not None and not -self._shortest_gap_s <= jump <= _LONGEST_GAP_S:
            jump = None  # the clock began anew
        if self._lost_s:
            yield from self._silence(self._lost_s if jump is None else jump, self._reason)
        elif jump is not None and time is not None and self.origin_s is not None:
            # A clock that jumps to and fro is late only once.
            late = min(jump, time - self.origin_s - self.end_s)
            if late >= self._shortest_gap_s:
                yield from self._silence(late, "are missing in the file")
        self._lost_s = Fraction(0)

    def _silence(self, length_s: Fraction, reason: str) -> Iterator[av.AudioFrame]:
        rest = round(min(length_s, Fraction(_LONGEST_GAP_S)) * self._rate)
        if rest <= 0:
            return
        self._note(
            f"{rest / self._rate:.3f} s of audio at {float(self.end_s):.3f} s {reason}; silence takes"
            " their place"
        )
        channels = len(av.AudioLayout(self._layout).channels)
        while rest:
            samples = min(rest, self._rate)
            silence = np.zeros((channels, samples), np.float32)
            frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout=self._layout)
            frame.sample_rate = self._rate
            self.end_s += Fraction(samples, self._rate)
            rest -= samples
            yield frame

    def _note(self, text: str) -> None:
        self.damage.append(Damage(float(self.end_s), text))

    def _stated_length_s(self) -> Fraction | None:
        stream, container = self._track.stream, self._track.container
        if self._format in _TRACK_LENGTH and stream.duration and stream.time_base:
            return stream.duration * stream.time_base
        if self._format in _FILE_LENGTH and container.duration and len(container.streams) == 1:
            return Fraction(container.duration, av.time_base)
        return None
