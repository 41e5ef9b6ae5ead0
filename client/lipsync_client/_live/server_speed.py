"""The speed of the server, as all sessions of a client measure it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection

from ..protocol import FPS

_OVERHEAD = 1.5  # frames that a request costs beside its own
_REMEMBERED = 24  # responses
_USUAL = 0.9  # of the responses come within the time that is counted on
_BUSY = 0.65  # of a chunk's own length that the server may take for it, where there is a choice


class ServerSpeed:
    """The time that the server takes for a request."""

    def __init__(self) -> None:
        # Seconds per frame, the overhead of a request included: of requests that had the server for
        # themselves, and of those that came while others were in flight.
        self._alone: deque[float] = deque(maxlen=_REMEMBERED)
        self._queued: deque[float] = deque(maxlen=_REMEMBERED)
        self._per_frame_s = 0.0
        self._in_flight = 0
        self._answered_at = -math.inf

    def sent(self) -> bool:
        """Note a request; return whether no other one is in flight."""
        self._in_flight += 1
        return self._in_flight == 1

    def answered(self, now: float, sent_at: float, count: int, *, alone: bool) -> None:
        """Note the response to a request for `count` frames."""
        took_s = now - max(sent_at, self._answered_at)
        (self._alone if alone else self._queued).append(took_s / (_OVERHEAD + count))
        self._answered_at = now
        self._per_frame_s = max(_quantile(self._alone, _USUAL), _quantile(self._queued, 0.5))

    def ended(self) -> None:
        """Note that a request is no longer in flight, however it ended."""
        self._in_flight -= 1

    def time_for(self, count: int) -> float:
        """Return the time in which a request for `count` frames is usually answered, in seconds."""
        return (_OVERHEAD + count) * self._per_frame_s

    def chunk(self, most: int) -> int:
        """Return the number of frames to request at once: few, if the server can keep up with that."""
        for count in range(1, most):
            if self.time_for(count) <= _BUSY * count / FPS:
                return count
        return most


def _quantile(values: Collection[float], share: float) -> float:
    return sorted(values)[int(share * len(values))] if values else 0.0
