"""Decisions of a client with several servers: which one to ask, how long to wait, when to ask again.

Nothing here waits or reads a clock: times come in as seconds of one monotonic clock.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, field

from .._errors import (
    Overloaded,
    QueueTimeout,
    ServerError,
    ServerLost,
    ServerTimeout,
    UnknownAvatar,
    Unreachable,
)

GONE = (Unreachable, ServerLost)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 0.5  # between two rounds of tries
FIRST_REST_S, LONGEST_REST_S = 0.5, 10.0  # of a server after failures
# A request that takes SLOW_FACTOR times longer than usual, and SLOW_S at least, is sent to a second server
# too. To the same server it is sent again after REPEAT_S and REPEAT_SHARE of its timeout at least: behind the
# URL there may be a gateway, and a replica that hangs.
SLOW_FACTOR, SLOW_S = 4.0, 2.0
REPEAT_S, REPEAT_SHARE = 10.0, 0.25
MOST_CALLS = 3  # of one request in flight at once
STREAM_SHARE = 0.5  # of its timeout that a stream's first try gets for the first response
_KEPT = 0.8  # weight of the past in the running mean of a server's response times


@dataclass(eq=False)
class Replica:
    """The state of one server.

    Attributes:
        in_flight: requests that it has not yet responded to.
        usual_s: running mean of its response times; 0 before the first response.
        failures: since its last response.
        rests_until: when it may be asked again; before that only if all servers rest.
    """

    in_flight: int = 0
    usual_s: float = 0.0
    failures: int = 0
    rests_until: float = 0.0

    def works(self) -> None:
        """Note that the server has responded."""
        self.failures, self.rests_until = 0, 0.0

    def responded(self, took_s: float) -> None:
        """Note a response and the time it took."""
        self.works()
        self.usual_s = _KEPT * (self.usual_s or took_s) + (1 - _KEPT) * took_s

    def failed(self, now: float) -> None:
        """Note a failure: the server rests for a time that doubles with each failure."""
        # Bounded before the power: a client may see thousands of failures in a row.
        doublings = min(self.failures, 10)
        self.rests_until = now + min(LONGEST_REST_S, FIRST_REST_S * 2**doublings)
        self.failures += 1

    def rests(self, now: float) -> bool:
        """Return True while the server should be left alone."""
        return self.rests_until > now


def pick(replicas: Collection[Replica], now: float, exclude: Collection[Replica] = ()) -> Replica:
    """Return the server with the fewest requests in flight.

    A server that rests is chosen only if all others do, and an excluded one only if there is no other.
    """
    allowed = [replica for replica in replicas if replica not in exclude] or list(replicas)
    return min(allowed, key=lambda r: (r.rests(now), r.in_flight, r.usual_s))


def repeat_after_s(replicas: Collection[Replica], timeout_s: float, calls: int) -> float | None:
    """Return how long to wait for a response before the request is sent once more; None for never.

    Args:
        replicas: all servers.
        timeout_s: of the request.
        calls: of the request in flight.
    """
    if calls >= MOST_CALLS:
        return None
    slow_s = SLOW_FACTOR * max(replica.usual_s for replica in replicas)
    if calls < len(replicas):
        return max(SLOW_S, slow_s)
    return max(REPEAT_S, REPEAT_SHARE * timeout_s, slow_s)


@dataclass
class Tries:
    """The tries of one request.

    Attributes:
        model: that is asked.
        begun: time of the first try.
        timeout_s: for all tries together.
        usable: number of servers that can be asked.
        failed: servers that failed in this round.
    """

    model: str
    begun: float
    timeout_s: float
    usable: int
    failed: list[Replica] = field(default_factory=list)
    _pause_s: float = FIRST_PAUSE_S

    def left_s(self, now: float) -> float:
        """Return the time that is left for the request."""
        return max(0.0, self.begun + self.timeout_s - now)

    def round_failed(self, replica: Replica) -> bool:
        """Note a failed try; return True if every server has failed once in this round."""
        if replica not in self.failed:
            self.failed.append(replica)
        return len(self.failed) >= self.usable

    def worth_another(
        self,
        error: ServerError,
        now: float,
        *,
        everywhere: bool,
        served: bool,
        responded_at: float | None,
        reconnect_timeout_s: float,
    ) -> bool:
        """Return True if another try can help.

        Args:
            error: of the last try.
            now: time.
            everywhere: each server has failed in this round.
            served: some server has responded for this model before.
            responded_at: time of the last response of any server; None before the first.
            reconnect_timeout_s: longest wait for lost servers to come back.
        """
        if self.left_s(now) <= 0 or isinstance(error, QueueTimeout):
            return False  # the response would come too late
        if not everywhere or isinstance(error, Overloaded):
            return True
        # A server that stops or starts knows none of its models (triton-inference-server/server#6230).
        if isinstance(error, GONE) or (isinstance(error, UnknownAvatar) and served):
            return responded_at is not None and (
                now - max(self.begun, responded_at) < reconnect_timeout_s
            )
        return isinstance(
            error, ServerTimeout
        )  # a stream's first try, which leaves time for another

    def next_round(self, now: float) -> float:
        """Begin a new round; return the seconds to wait before it."""
        self.failed.clear()
        pause = self._pause_s * random.uniform(0.5, 1.5)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        return min(pause, self.left_s(now))
