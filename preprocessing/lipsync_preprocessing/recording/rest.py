"""The loop that an avatar rests in: a closed mouth, quiet, and an end that is like the beginning."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lipsync_preprocessing.contract import FRAME_RATE
from lipsync_preprocessing.recording.track import Track

SHORTEST_S, LONGEST_S = 1.0, 10.0
_UNLIKE_COSTS_S = 20.0  # a difference of the whole side costs so many seconds of length
_BRIDGED = 3  # frames: a mouth that seems open for so long does not end a pause


@dataclass(frozen=True)
class RestLoop:
    """Frames of a dataset, `first` to `last`, both inside.

    Attributes:
        difference: between the first and the last face square, pixels.
    """

    first: int
    last: int
    difference: float

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return (self.last - self.first + 1) / FRAME_RATE


def find_rest(track: Track) -> RestLoop | None:
    """Return the best loop; None if the mouth is never closed in quiet for a second."""
    good = _bridged(track.quiet & track.closed & track.found)
    shortest, longest = round(SHORTEST_S * FRAME_RATE), round(LONGEST_S * FRAME_RATE)
    side = float(np.median(track.square[:, 2]))
    best: tuple[float, RestLoop] | None = None
    ends = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(int)))
    for a, b in ends.reshape(-1, 2):
        for first in range(a, b - shortest + 1, 2):
            lasts = np.arange(first + shortest - 1, min(b, first + longest))
            apart = np.abs(track.square[lasts] - track.square[first]).max(1)
            value = (lasts - first) / FRAME_RATE - _UNLIKE_COSTS_S * apart / side
            k = int(np.argmax(value))
            if best is None or value[k] > best[0]:
                best = float(value[k]), RestLoop(int(first), int(lasts[k]), float(apart[k]))
    return best[1] if best else None


def _bridged(
    flags: np.ndarray[tuple[int], np.dtype[np.bool_]],
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return the flags with short gaps between two runs filled."""
    filled = flags.copy()
    edges = np.flatnonzero(np.diff(flags.astype(int)))
    for a, b in pairwise(edges):
        if not flags[a + 1] and b - a <= _BRIDGED:
            filled[a + 1 : b + 1] = True
    return filled
