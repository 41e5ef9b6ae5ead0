"""The evenness of the audio that is fed, and the time at which it can be played without a break."""

from __future__ import annotations

import math

# A source that delivers more at once than this does not wait for the audio to be spoken.
_LONGEST_BLOCK_S = 0.12
_FIRST_JITTER_S, _MOST_JITTER_S = 0.02, 0.5  # before anything was measured, and at most
_HALF_LIFE_S = 10.0  # of a measured jitter
_AT_PACE_S = 3.0  # after so long it is known whether a source keeps the pace of speech
_MOST_AHEAD_S = 0.4  # of a source that keeps the pace of speech
_LONGEST_GAP_S = 0.15  # at least; a longer one is a pause of the source


class SourcePace:
    """The pace of the audio that is fed.

    Attributes:
        jitter_s: how far audio comes behind the pace of speech, at worst, lately.
    """

    def __init__(self) -> None:
        self.jitter_s = _FIRST_JITTER_S
        self._last = -math.inf  # when the last block came
        self._block_s = self._gap_s = 0.0  # its length, and the longest recent gap between blocks
        self._behind_s = 0.0
        self._begun: float | None = None  # of the audio that is played without a break
        self._received_s = self._ahead_s = 0.0

    def fed(self, now: float, seconds: float) -> None:
        """Note a block of audio."""
        gap = now - self._last
        if self._begun is None:
            self._begun, self._received_s, self._ahead_s, self._behind_s = now, 0.0, 0.0, 0.0
        else:
            faded = 0.5 ** (gap / _HALF_LIFE_S)
            self._behind_s = max(0.0, self._behind_s + gap - self._block_s)
            self.jitter_s = max(self.jitter_s * faded, min(self._behind_s, _MOST_JITTER_S))
            self._gap_s = max(self._gap_s * faded, gap)
        self._last, self._block_s = now, seconds
        self._received_s += seconds
        self._ahead_s = max(self._ahead_s, self._received_s - (now - self._begun))

    def waited_for(self) -> None:
        """Note that the playback has waited: audio that comes evenly from now on is in time."""
        self._behind_s = 0.0

    def paused(self) -> None:
        """Note that silence follows; what comes next is no measure of the pace."""
        self._begun = None

    def is_over(self, now: float) -> bool:
        """Return whether the source has paused: it is silent for longer than its gaps are."""
        return now - self._last > max(2 * self._gap_s, _LONGEST_GAP_S)

    def at_pace(self, now: float) -> bool:
        """Return whether the source has kept the pace of speech for some time."""
        return (
            self._begun is not None
            and now - self._begun > _AT_PACE_S
            and self._ahead_s < _MOST_AHEAD_S
        )

    def ready_at(self, in_hand_s: float, needed_s: float) -> float:
        """Return when playback can begin, or go on, and never run out of audio.

        Args:
            in_hand_s: audio that is there, from the first sample that is to be played.
            needed_s: audio that must be there when that sample is played.
        """
        block_s = min(self._block_s, _LONGEST_BLOCK_S)
        return self._last + block_s + self.jitter_s + needed_s - in_hand_s
