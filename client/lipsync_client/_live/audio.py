"""The audio of a live session: fed blocks, placed on the frames that play them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import soxr

from .. import protocol
from .frame import Samples
from .line import Line
from .options import LiveOptions
from .samples import Loudness, mixed

# The server is told that this much silence came before frame 0: a mouth that has been closed, where the
# first frames of a clip would have no past at all.
LEAD = 16  # frames
_LEAD_SAMPLES = LEAD * protocol.SAMPLES_PER_FRAME
# Audio below -140 dB cannot lift a mel band off its floor of -100 dB.
_SILENT = 1e-7
# Audio may be placed seconds ahead, and the frames before it still depend on what was played last.
_MEMORY_S = 4
_PAUSE_S = 0.1  # of quiet at the end of the speech: it pauses
# Samples, at the lower of both rates, to each side of a sample that the resampler (soxr HQ) looks at.
_RESAMPLER_REACH = 100


@dataclass
class _Span:
    """Fed samples that are played one after the other.

    Attributes:
        begin: position of the first one among the samples that are played.
        fed: its position among the samples that were fed.
        count: number of samples.
    """

    begin: int
    fed: int
    count: int


class LiveAudio:
    """The audio that was fed, placed on the session's frames, with silence in between.

    Frame i plays the samples from i * rate / 25 up to the next frame's. After silence, fed audio waits until
    `place` decides on the frame that it begins with; from then on it is `open`: what is fed follows directly,
    until `close`.

    Attributes:
        open: audio that is fed now follows directly.
        fed: samples fed so far.
        silence: the audio of a frame at which nothing is played.
    """

    def __init__(self, options: LiveOptions) -> None:
        self._options = options
        self._size = options.rate // protocol.FPS  # samples per frame, as fed
        self._line = Line(options.channels, _MEMORY_S * options.rate)
        self._reach = 0
        if options.rate != protocol.SAMPLE_RATE:
            lower = min(options.rate, protocol.SAMPLE_RATE)
            self._reach = -(-options.rate * _RESAMPLER_REACH // lower)
        self.silence: Samples = np.zeros(
            (options.audio_rate // protocol.FPS, options.audio_channels), np.float32
        )
        self.silence.flags.writeable = False
        self._waiting: list[tuple[Samples, int, float] | None] = []  # None: up to the next frame
        self._spans: deque[_Span] = deque()
        self._arrivals: deque[tuple[int, float]] = deque()  # end of a block, and when it came
        self._loud_end = self._passed = 0
        self._loudness = Loudness()
        self.open = False
        self.fed = 0

    @property
    def waiting(self) -> int:
        """Samples that were fed and not placed."""
        return sum(len(entry[0]) for entry in self._waiting if entry is not None)

    @property
    def end(self) -> int:
        """Position after the last sample that is placed, in samples as fed."""
        return self._line.end

    @property
    def end_frame(self) -> int:
        """Number of the first frame after the placed audio."""
        return -(-self._line.end // self._size)

    @property
    def covered(self) -> int:
        """Number of the first frame for which the placed audio is not enough."""
        known = (self._line.end - self._reach) * protocol.SAMPLE_RATE // self._options.rate
        return protocol.live_frames(known + _LEAD_SAMPLES) - LEAD

    def feed(self, block: Samples, now: float) -> None:
        """Take audio, float32 (n, channels), that came at the time `now`."""
        entry = (block, self.fed, now)
        self.fed += len(block)
        if self.open:
            self._append(*entry)
        else:
            self._waiting.append(entry)

    def skip(self, block: Samples) -> None:
        """Take audio that will not be played."""
        self.fed += len(block)
        self._passed = self.fed

    def is_quiet(self, block: Samples) -> bool:
        """Return whether a block that is about to be fed goes on with a pause of the speech."""
        return self._loudness.is_quiet(block) and self.ends_quietly()

    def ends_quietly(self) -> bool:
        """Return whether the speech pauses at the end of what is placed."""
        end = self._line.end
        reach = int(_PAUSE_S * self._options.rate)
        return self._loudness.is_quiet(self._line.between(end - reach, end))

    def end_reply(self) -> None:
        """Let the next audio begin on a frame of its own."""
        if self.open:
            self._line.append_silence(-self._line.end % self._size)
        elif self._waiting:
            self._waiting.append(None)

    def place(self, frame: int) -> None:
        """Play what waits from a frame on; it must not lie before `end_frame`."""
        self._line.extend_to(frame * self._size)
        self.open = True
        waiting, self._waiting = self._waiting, []
        for entry in waiting:
            if entry is None:
                self.end_reply()
            else:
                self._append(*entry)

    def pause(self, frames: int) -> None:
        """Put silence after what was fed so far."""
        self._line.append_silence(frames * self._size)

    def close(self) -> None:
        """Let silence follow, until `place`."""
        self.open = False

    def cut(self, frame: int) -> None:
        """Drop all audio from a frame on."""
        at = frame * self._size
        self._waiting.clear()
        self._line.truncate(at)
        self._loud_end = min(self._loud_end, at)
        while self._spans and self._spans[-1].begin >= at:
            self._spans.pop()
        if self._spans:
            last = self._spans[-1]
            last.count = min(last.count, at - last.begin)
        self._passed = self.fed
        self.open = False

    def played(self, frame: int) -> int:
        """Return how many of the fed samples are over when a frame begins."""
        at = frame * self._size
        if at >= self._line.end:
            return self._passed
        over = 0
        for span in self._spans:
            if span.begin >= at:
                break
            over = span.fed + min(span.count, at - span.begin)
        return over

    def slice(self, frame: int, count: int) -> tuple[int, Samples]:
        """Return the samples for the server that some frames depend on.

        Returns:
            The index of the first one in the server's clip, in which `frame` is number frame + LEAD; and
            mono samples at 16 kHz.
        """
        begin, end = protocol.sample_range(protocol.LIVE, frame + LEAD, count)
        first, stop = begin - _LEAD_SAMPLES, end - _LEAD_SAMPLES
        rate = self._options.rate
        if rate == protocol.SAMPLE_RATE:
            return begin, self._line.between(first, stop).mean(axis=1, dtype=np.float32)
        whole = first // protocol.SAMPLES_PER_FRAME - 1  # the frame to begin at: both rates have it
        source_end = -(-stop * rate // protocol.SAMPLE_RATE) + self._reach
        mono = self._line.between(whole * self._size, source_end).mean(axis=1, dtype=np.float32)
        samples = soxr.resample(mono, rate, protocol.SAMPLE_RATE, quality="HQ")
        skipped = first - whole * protocol.SAMPLES_PER_FRAME
        return begin, samples[skipped : skipped + end - begin]

    def is_silent(self, frame: int, count: int) -> bool:
        """Return whether the server could not tell from silence what some frames depend on."""
        begin, end = self._reads(frame, count)
        if begin >= self._loud_end or end <= self._line.start:
            return True
        return float(np.abs(self._line.between(begin, end)).max(initial=0.0)) < _SILENT

    def silent_from(self, frame: int) -> int:
        """Return the first frame, from `frame` on, that depends on nothing but silence.

        It is taken for granted that silence follows what is placed.
        """
        while self._reads(frame, 1)[0] < self._loud_end:
            frame += 1
        return frame

    def frame_audio(self, frame: int) -> Samples:
        """Return the audio of a frame for the output; silence where there is none."""
        begin, end = frame * self._size, (frame + 1) * self._size
        if begin >= self._line.end or end <= self._line.start:
            return self.silence
        options = self._options
        if options.audio_rate == options.rate:
            return mixed(self._line.between(begin, end), options.audio_channels)
        around = self._line.between(begin - self._size, end + self._size)
        block = mixed(around, options.audio_channels)
        count = options.audio_rate // protocol.FPS
        block = soxr.resample(block, options.rate, options.audio_rate, quality="HQ")
        return np.ascontiguousarray(block[count : 2 * count], np.float32)

    def arrived(self, frame: int) -> float | None:
        """Return when a frame's first sample came; None if it was not fed.

        The frame must not lie before the one of an earlier call.
        """
        at = frame * self._size
        while self._arrivals and self._arrivals[0][0] <= at:
            self._arrivals.popleft()
        fed = any(span.begin <= at < span.begin + span.count for span in self._spans)
        return self._arrivals[0][1] if fed and self._arrivals else None

    def forget(self, frame: int) -> None:
        """Drop the audio that no frame from `frame` on needs."""
        begin, _ = self._reads(frame, 1)
        self._line.drop_before(begin - 2 * self._size)
        while len(self._spans) > 1 and self._spans[1].begin < frame * self._size:
            self._spans.popleft()

    def _append(self, block: Samples, fed: int, now: float) -> None:
        if not len(block):
            return
        begin = self._line.end
        self._line.append(block)
        last = self._spans[-1] if self._spans else None
        if last and (begin, fed) == (last.begin + last.count, last.fed + last.count):
            last.count += len(block)
        else:
            self._spans.append(_Span(begin, fed, len(block)))
        self._passed = fed + len(block)
        self._loudness.note(block, self._options.rate)
        self._arrivals.append((self._line.end, now))
        loud = np.flatnonzero(np.abs(block).max(axis=1) >= _SILENT)
        if loud.size:
            self._loud_end = begin + int(loud[-1]) + 1

    def _reads(self, frame: int, count: int) -> tuple[int, int]:
        """Return the positions, begin and end, of the fed samples that some frames depend on."""
        begin, end = protocol.sample_range(protocol.LIVE, frame + LEAD, count)
        rate, lead = self._options.rate, _LEAD_SAMPLES
        return (
            (begin - lead) * rate // protocol.SAMPLE_RATE - self._reach,
            -(-(end - lead) * rate // protocol.SAMPLE_RATE) + self._reach,
        )
