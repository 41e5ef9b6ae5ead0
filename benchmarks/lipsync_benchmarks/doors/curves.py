"""The mouth and the sound of a clip as curves over time, and how a peer's curves compare with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lipsync_client.protocol import FPS

STEP_S = 0.01  # of all curves
_LEAST = 20  # samples that are compared
_TRIED_S = 0.5  # the shift is looked for this far around the expected place
Curve = NDArray[np.float64]


@dataclass(frozen=True)
class Sync:
    """Mouth against sound, both found in what a peer received.

    Attributes:
        correlation: of the mouth's opening with that of an offline render of the same clip.
        loudness: correlation of the mouth's opening with the loudness of the audio, as received.
        shift_ms: how much later the mouth comes than the sound that belongs to it.
    """

    correlation: float
    loudness: float
    shift_ms: float

    def __str__(self) -> str:
        return (
            f"correlation {self.correlation:.2f}, with the loudness {self.loudness:.2f},"
            f" shift {self.shift_ms:+.0f} ms"
        )


@dataclass(frozen=True)
class Points:
    """A curve as a peer sampled it.

    Attributes:
        times: seconds on the peer's media timeline, ascending.
        values: of the curve at these times.
    """

    times: Curve
    values: Curve

    def at(self, times: Curve) -> Curve:
        """Return the curve at these times, between the samples by linear interpolation."""
        return np.asarray(np.interp(times, self.times, self.values), np.float64)


def frame_points(opening: Curve) -> Points:
    """Return the curve of an offline render, whose frame i is shown at i / 25 s."""
    return Points(np.arange(len(opening)) / FPS, np.asarray(opening, np.float64))


def loudness(samples: NDArray[np.float32], rate: int) -> Curve:
    """Return the root mean square of each 10 ms of mono samples."""
    size = round(rate * STEP_S)
    blocks = samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64)
    return np.asarray(np.sqrt((blocks**2).mean(axis=1)), np.float64)


def compare(mouth: Points, sound: Points, opening: Curve, loud: Curve, expected_s: float) -> Sync:
    """Return how a peer's mouth and sound belong together.

    Args:
        mouth, sound: opening and loudness at the peer.
        opening: of the offline render, one value a frame.
        loud: of the clip, one value each 10 ms.
        expected_s: place of the clip's beginning on the peer's timeline, within half a second.
    """
    sound_at, _ = place(sound, Points(np.arange(len(loud)) * STEP_S, loud), expected_s)
    mouth_at, best = place(mouth, frame_points(opening), sound_at)
    times = np.arange(0, len(opening) / FPS - STEP_S, STEP_S)
    smooth = np.convolve(sound.at(sound_at + times), np.ones(4) / 4, "same")  # of a frame's length
    heard = np.corrcoef(mouth.at(mouth_at + times), smooth)[0, 1]
    return Sync(best, float(heard), 1000 * (mouth_at - sound_at))


def place(seen: Points, wanted: Points, expected_s: float) -> tuple[float, float]:
    """Return the time in `seen` at which `wanted` begins, and their correlation there.

    The place of the highest correlation within half a second of the expected one; between the steps of 10 ms
    by a parabola. Only what was seen is compared: a frame that is missing does not count.
    """
    shifts = np.arange(-_TRIED_S, _TRIED_S + STEP_S, STEP_S)

    def at(begin: float) -> float:
        times = seen.times - begin
        inside = (times >= wanted.times[0]) & (times <= wanted.times[-1])
        if inside.sum() < _LEAST:
            return 0.0
        return _correlation(seen.values[inside], wanted.at(times[inside]))

    found = np.array([at(expected_s + shift) for shift in shifts])
    best = int(found.argmax())
    offset = 0.0
    if 0 < best < len(shifts) - 1:
        before, here, after = found[best - 1 : best + 2]
        bend = before - 2 * here + after
        offset = 0.0 if bend == 0 else 0.5 * (before - after) / bend
    return float(expected_s + shifts[best] + offset * STEP_S), float(found[best])


def find(sound: Points, loud: Curve) -> float:
    """Return the time at which a clip is heard best, wherever that is.

    Args:
        sound: loudness at the peer.
        loud: of the clip, one value each 10 ms.
    """
    times = np.arange(sound.times[0], sound.times[-1], STEP_S)
    wanted, seen = loud - loud.mean(), sound.at(times)
    size = len(wanted)
    sums = np.cumsum(np.concatenate([[0.0], seen]))
    squares = np.cumsum(np.concatenate([[0.0], seen**2]))
    power = squares[size:] - squares[:-size] - (sums[size:] - sums[:-size]) ** 2 / size
    products = np.correlate(seen, wanted, "valid") / np.sqrt(np.maximum(power, 1e-9))
    return float(times[int(products.argmax())])


def begin_of_sound(sound: Points, floor: float = 0.02) -> float:
    """Return the time of the first loudness above a share of the largest.

    Raises:
        ValueError: nothing was heard.
    """
    loud = np.flatnonzero(sound.values > floor * sound.values.max(initial=0.0))
    if not len(loud):
        raise ValueError("nothing was heard")
    return float(sound.times[loud[0]])


def _correlation(a: Curve, b: Curve) -> float:
    """Return Pearson's correlation; 0 where a curve is flat."""
    spread = a.std() * b.std()
    return 0.0 if spread == 0 else float(((a - a.mean()) * (b - b.mean())).mean() / spread)
