"""The speed of the server, and the requests that it works on, as all sessions of a client see them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from ..protocol import FPS

# Frames that a request costs beside its own: what is counted on, and what is tried, as long as no request for
# so many frames was measured. A server may take no longer for two frames than for one.
_OVERHEAD, _LEAST_OVERHEAD = 1.5, 0.5
_REMEMBERED = 24  # responses
_USUAL = 0.9  # of the responses come within the time that is counted on
_BUSY = 0.8  # of a chunk's own length that the server may take for it, where there is a choice


@dataclass(eq=False)
class Sent:
    """A request that is in flight.

    Attributes:
        at: when it was sent.
        count: frames that it asks for.
        alone: no other request was in flight then.
    """

    at: float
    count: int
    alone: bool


class ServerSpeed:
    """The time that the server takes for a request."""

    def __init__(self) -> None:
        # Number of frames, and seconds, of requests that had the server for themselves, and of those that
        # came while others were in flight.
        self._alone: deque[tuple[int, float]] = deque(maxlen=_REMEMBERED)
        self._queued: deque[tuple[int, float]] = deque(maxlen=_REMEMBERED)
        self._times: dict[int, float] = {}  # measured, by the number of frames
        self._per_frame_s = self._least_s = 0.0  # with the overhead, and with the least one
        self._in_flight: dict[Sent, None] = {}  # in the order in which they were sent
        self._answered_at = -math.inf

    def sent(self, now: float, count: int) -> Sent:
        """Note a request for `count` frames."""
        request = Sent(now, count, not self._in_flight)
        self._in_flight[request] = None
        return request

    def answered(self, request: Sent, now: float) -> None:
        """Note the response to a request."""
        took_s = now - max(request.at, self._answered_at)
        measured = self._alone if request.alone else self._queued
        measured.append((request.count, took_s))
        self._answered_at = now
        alone = self._alone or self._queued
        usual_s = _usual(alone, _USUAL, _OVERHEAD)
        self._per_frame_s = max(usual_s, _usual(self._queued, 0.5, _OVERHEAD))
        slower = self._per_frame_s / usual_s if usual_s else 1.0
        self._least_s = slower * _usual(alone, _USUAL, _LEAST_OVERHEAD)
        self._times = {
            count: slower * _quantile([s for n, s in alone if n == count], _USUAL)
            for count in {n for n, _ in alone}
        }

    def ended(self, request: Sent) -> None:
        """Note that a request is no longer in flight, however it ended."""
        self._in_flight.pop(request, None)

    def time_for(self, count: int) -> float:
        """Return the time in which a request for `count` frames is usually answered, in seconds."""
        return self._times.get(count, (_OVERHEAD + count) * self._per_frame_s)

    def queue_s(self, now: float) -> float:
        """Return the time after which the requests in flight are usually answered."""
        queue_s = 0.0
        for request in self._in_flight:
            begun = max(request.at, self._answered_at)
            worked_s = 0.0 if queue_s else now - begun
            queue_s += max(0.0, self.time_for(request.count) - worked_s)
        return queue_s

    def chunk(self, most: int) -> int:
        """Return the number of frames to request at once: few, if the server can keep up with that."""
        for count in range(1, most):
            expected_s = self._times.get(count, (_LEAST_OVERHEAD + count) * self._least_s)
            if expected_s <= _BUSY * count / FPS:
                return count
        return most


def _usual(measured: Collection[tuple[int, float]], share: float, overhead: float) -> float:
    """Return the time for a frame, in seconds, if a request costs `overhead` frames beside its own."""
    return _quantile([seconds / (overhead + count) for count, seconds in measured], share)


def _quantile(values: Collection[float], share: float) -> float:
    return sorted(values)[int(share * len(values))] if values else 0.0
