"""The figures of a live session, in memory that does not grow with it."""

from __future__ import annotations

from typing import Any

import numpy as np

_STEP_S = 0.001
_LONGEST_S = 60.0


class LiveReport:
    """Figures of a live session.

    Attributes:
        frames: given.
        repeated: of these, those without a picture of their own.
        idle: of these, those at rest.
        longest_gap_s: between two frames.
    """

    def __init__(self) -> None:
        self.frames = self.repeated = self.idle = 0
        self.longest_gap_s = 0.0
        self._first = self._last = 0.0
        self._latencies = np.zeros(int(_LONGEST_S / _STEP_S), np.int64)

    def frame(self, now: float, arrived: float | None, *, repeated: bool, idle: bool) -> None:
        """Count a frame.

        Args:
            now: monotonic time at which it is given.
            arrived: when its first sample came, if it came from outside.
            repeated: it has no picture of its own.
            idle: it is at rest.
        """
        if self.frames:
            self.longest_gap_s = max(self.longest_gap_s, now - self._last)
        else:
            self._first = now
        self._last = now
        self.frames += 1
        self.repeated += repeated
        self.idle += idle
        if arrived is not None:
            slot = int((now - arrived) / _STEP_S)
            self._latencies[min(max(slot, 0), self._latencies.size - 1)] += 1

    @property
    def seconds(self) -> float:
        """From the first frame to the last."""
        return self._last - self._first

    def latency_s(self, percentile: float) -> float | None:
        """From the arrival of a frame's first sample to the frame; None if none came."""
        total = int(self._latencies.sum())
        if not total:
            return None
        wanted = max(1, int(np.ceil(total * percentile / 100)))
        return float(np.searchsorted(np.cumsum(self._latencies), wanted) * _STEP_S)

    def as_dict(self) -> dict[str, Any]:
        """The figures, for JSON."""
        latency = {f"p{p}": self.latency_s(p) for p in (50, 95, 99)}
        return {
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            "repeated": self.repeated,
            "idle": self.idle,
            "longest_gap_s": round(self.longest_gap_s, 3),
            "latency_s": {k: v if v is None else round(v, 3) for k, v in latency.items()},
        }
