"""The sound of a live session: as it comes for the output, and at 16 kHz for the server."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from .._errors import InputError
from ..protocol import FPS, SAMPLE_RATE

Samples = NDArray[np.float32]

FRAME = SAMPLE_RATE // FPS  # samples a video frame at 16 kHz
# The server is told that this much silence came first: a mouth that has been closed, where the first frames
# of a clip would have no past at all.
LEAD = 16  # frames
# Sound below -140 dB cannot lift a mel band off its floor of -100 dB.
_SILENT = 1e-7


class _Line:
    """Samples from `start` on, (n, channels), that grow at one end and are let go at the other."""

    def __init__(self, channels: int) -> None:
        self._data: Samples = np.zeros((SAMPLE_RATE, channels), np.float32)
        self.start = self._size = 0

    @property
    def end(self) -> int:
        return self.start + self._size

    def append(self, block: Samples) -> None:
        size = self._size + len(block)
        if size > len(self._data):
            grown = np.zeros((2 * size, self._data.shape[1]), np.float32)
            grown[: self._size] = self._data[: self._size]
            self._data = grown
        self._data[self._size : size] = block
        self._size = size

    def between(self, begin: int, end: int) -> Samples:
        return self._data[max(0, begin - self.start) : min(self._size, max(0, end - self.start))]

    def drop_before(self, begin: int) -> None:
        """Let go of what lies before `begin`, a second at a time."""
        if (old := begin - self.start) > SAMPLE_RATE:
            kept = self._data[old : self._size].copy()
            self._data, self.start, self._size = kept, begin, len(kept)

    def cut(self, end: int) -> None:
        """Drop what lies from `end` on; silence where nothing came so far."""
        if (missing := end - self.end) > 0:
            self.append(np.zeros((missing, self._data.shape[1]), np.float32))
        self._size = end - self.start

    def silence(self) -> None:
        self._data[:] = 0


class LiveAudio:
    """One endless clip, of what was fed and of silence where nothing was.

    Frame i of the output has the samples i * rate / 25 up to the next frame's.

    Args:
        rate: Hz; a multiple of 25, so that a frame is whole samples.
        channels: of the sound that is fed, and of the output's.

    Raises:
        InputError: no such rate or number of channels.
    """

    def __init__(self, rate: int, channels: int) -> None:
        if not 8000 <= rate <= 192_000 or rate % FPS:
            raise InputError(
                f"the rate must be a multiple of {FPS} from 8000 to 192000 Hz, got {rate}"
            )
        if not 1 <= channels <= 8:
            raise InputError(f"the sound must have 1 to 8 channels, got {channels}")
        self.rate, self.channels = rate, channels
        self._frame = rate // FPS
        self._sound, self._speech = _Line(channels), _Line(1)
        self._speech.cut(LEAD * FRAME)
        self._resampler = self._new_resampler()
        self._dry, self._fed = True, 0
        self._stamps: deque[tuple[int, int, float]] = deque()

    @property
    def end(self) -> int:
        """Samples so far, at the caller's rate."""
        return self._sound.end

    @property
    def frames(self) -> int:
        """Frames up to the end of what was fed, the last one perhaps not full."""
        return -(-self._fed // self._frame)

    def checked(self, samples: NDArray[Any]) -> Samples:
        """Samples as float32 (n, channels).

        Args:
            samples: float in -1..1 or int16; (n,) or (n, channels).

        Raises:
            InputError: another type or shape, or a sample that is not finite.
        """
        block = np.asarray(samples)
        if block.ndim == 1 and self.channels == 1:
            block = block[:, None]
        if block.ndim != 2 or block.shape[1] != self.channels:
            raise InputError(
                f"samples must be (n, {self.channels}){' or (n,)' if self.channels == 1 else ''},"
                f" got {list(np.shape(samples))}"
            )
        if block.dtype == np.int16:
            return block.astype(np.float32) / 32768
        if block.dtype.kind != "f":
            raise InputError(f"samples must be float in -1..1 or int16, got {block.dtype}")
        if not np.isfinite(block).all():
            raise InputError("samples must be finite: one of them is NaN or infinite")
        return block.astype(np.float32)

    def feed(self, block: Samples, now: float, at: int) -> None:
        """Append sound, float32 (n, channels), that came at the time `now`.

        After silence that was put in it begins at the server's sample `at`, if that is still to come.
        """
        if self._dry:
            self.fill_to(at)
            self._dry = False
        begin = self.end
        self._append(block)
        self._fed = self.end
        self._stamps.append((begin, self.end, now))

    def has(self, end: int) -> bool:
        """Return whether there is audio for the server up to its sample `end`."""
        return self._speech.end >= end

    def fill_to(self, end: int) -> None:
        """Silence up to the server's sample `end`, if nothing else has come."""
        while not self.has(end):
            count = -(-(end - self._speech.end) * self.rate // SAMPLE_RATE)
            self._append(np.zeros((count, self.channels), np.float32))
            self._dry = True

    def slice(self, begin: int, end: int) -> Samples:
        """The server's samples [begin, end)."""
        return self._speech.between(begin, end)[:, 0]

    def sound(self, frame: int) -> Samples:
        """A frame's sound, (rate / 25, channels); silence where there is none."""
        block = self._sound.between(frame * self._frame, (frame + 1) * self._frame)
        return np.pad(block, ((0, self._frame - len(block)), (0, 0)))

    def arrived(self, frame: int) -> float | None:
        """Return the time at which a frame's first sample came; None for inserted silence."""
        at = frame * self._frame
        while self._stamps and self._stamps[0][1] <= at:
            self._stamps.popleft()
        return self._stamps[0][2] if self._stamps and self._stamps[0][0] <= at else None

    def cut(self, frame: int) -> None:
        """Drop the sound from a frame on; to the server all before it was silence."""
        end = frame * self._frame
        self._sound.cut(end)
        self._fed = min(self._fed, end)
        self._stamps = deque((b, min(e, end), t) for b, e, t in self._stamps if b < end)
        self._speech.cut((frame + LEAD) * FRAME)
        self._speech.silence()
        self._resampler = self._new_resampler()
        self._dry = True

    def forget(self, frame: int, sample: int) -> None:
        """Let go of the sound before a frame, and of what lies before the server's `sample`."""
        self._sound.drop_before(frame * self._frame)
        self._speech.drop_before(sample)

    def _append(self, block: Samples) -> None:
        self._sound.append(block)
        mono = block.mean(axis=1, dtype=np.float32)
        if self._resampler is not None:
            mono = self._resampler.resample_chunk(mono)
        self._speech.append(mono[:, None])

    def _new_resampler(self) -> Any:
        if self.rate == SAMPLE_RATE:
            return None
        return soxr.ResampleStream(self.rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")


def is_silent(samples: Samples) -> bool:
    """Return whether the server cannot tell the audio from silence."""
    return not samples.size or float(np.abs(samples).max()) < _SILENT
