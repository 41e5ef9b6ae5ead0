"""The figures of a live session, in memory that does not grow with it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..protocol import FPS

_STEP_S = 0.001
_LONGEST_S = 60.0


class LiveReport:
    """The figures of a live session.

    Attributes:
        frames: number of frames given.
        repeated: of these, those without video of their own.
        idle: of these, those at which the avatar was idle.
        replies: replies that were played to their end.
        interruptions: replies that were not.
        stalls: times that frames and audio waited for the server.
        stalled_s: how long they waited, in all.
        waits: times that they waited for audio in the middle of a reply.
        waited_s: how long they waited, in all.
        longest_gap_s: longest time between two frames.
    """

    def __init__(self) -> None:
        self.frames = self.repeated = self.idle = 0
        self.replies = self.interruptions = 0
        self.stalls = self.waits = 0
        self.stalled_s = self.waited_s = 0.0
        self.longest_gap_s = 0.0
        self._first = self._last = 0.0
        self._latencies = np.zeros(int(_LONGEST_S / _STEP_S), np.int64)

    def frame(self, now: float, *, repeated: bool, idle: bool) -> None:
        """Count a frame that is given at the time `now`."""
        if self.frames:
            gap = now - self._last
            if gap > self.longest_gap_s:
                self.longest_gap_s = gap
        else:
            self._first = now
        self._last = now
        self.frames += 1
        self.repeated += repeated
        self.idle += idle

    def latency(self, seconds: float) -> None:
        """Count the time from the arrival of a frame's first sample to the frame."""
        self._latencies[min(max(int(seconds / _STEP_S), 0), self._latencies.size - 1)] += 1

    def stalled(self, frames: int) -> None:
        """Count a wait for the server."""
        self.stalls += 1
        self.stalled_s += frames / FPS

    def waited(self, frames: int) -> None:
        """Count a wait for audio in the middle of a reply."""
        self.waits += 1
        self.waited_s += frames / FPS

    @property
    def seconds(self) -> float:
        """From the first frame to the last."""
        return self._last - self._first

    def latency_s(self, percentile: float) -> float | None:
        """Return the latency from a sample to its frame; None if no audio was played."""
        total = int(self._latencies.sum())
        if not total:
            return None
        wanted = max(1, int(np.ceil(total * percentile / 100)))
        return float(np.searchsorted(np.cumsum(self._latencies), wanted) * _STEP_S)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        latency = {f"p{p}": self.latency_s(p) for p in (50, 95, 99)}
        counts = ("repeated", "idle", "replies", "interruptions", "stalls", "waits")
        return {
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            **{name: getattr(self, name) for name in counts},
            "stalled_s": round(self.stalled_s, 2),
            "waited_s": round(self.waited_s, 2),
            "longest_gap_s": round(self.longest_gap_s, 3),
            "latency_s": {k: v if v is None else round(v, 3) for k, v in latency.items()},
        }
