"""The times at which the frames of a live session are due."""

from __future__ import annotations

import math

from ..protocol import FPS
from .report import LiveReport

GRACE_S = 0.1  # frames that come so late are given at once, and the next ones in time again
_ROUNDING = 1e-6  # frames


class Timeline:
    """The times at which frames are due: 25 per second, and later by all that was waited for.

    Args:
        stall_s: longest time, in all until the next silence, that may be waited for a late server.
        report: that stalls are counted in.

    Attributes:
        begun: frame 0 has a time.
        stalled_s: how long was waited for the server since the last silence.
    """

    def __init__(self, stall_s: float, report: LiveReport) -> None:
        self._stall_s, self._report = stall_s, report
        self._origin = 0.0  # when frame 0 was due, with all delays since
        self.begun = False
        self.stalled_s = 0.0

    def begin(self, origin: float) -> None:
        """Begin with frame 0 at a time."""
        self._origin, self.begun = origin, True

    def due(self, frame: int) -> float:
        """Return when a frame is to be given."""
        return self._origin + frame / FPS

    def frame_after(self, time: float) -> int:
        """Return the first frame that is not due before a time."""
        return math.ceil((time - self._origin) * FPS - _ROUNDING)

    def delay(self, frames: int) -> None:
        """Let all frames that were not given wait."""
        self._origin += frames / FPS

    @property
    def left_s(self) -> float:
        """Time that may still be waited for the server."""
        return max(0.0, self._stall_s - self.stalled_s)

    def catch_up(self, frame: int, ready_at: float) -> float:
        """Delay a frame and all that follow if it was ready too late to make that good.

        Returns:
            When the frame is due.
        """
        late_s, left_s = ready_at - self.due(frame), self._stall_s - self.stalled_s
        if late_s > GRACE_S and left_s > 0:
            frames = math.ceil(min(late_s, left_s + GRACE_S) * FPS)
            self.delay(frames)
            self.stalled_s += frames / FPS
            self._report.stalled(frames)
        return self.due(frame)
