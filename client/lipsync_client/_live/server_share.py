"""The share of an overloaded server that a session asks for."""

from __future__ import annotations

import math
import random

_LEAST = 0.02
_CROWDED, _FREE = 0.65, 0.25  # of the time that there was for a response
_LONGEST_S = 0.6  # for a response, in the eyes of all sessions: some of them could wait longer
_ONCE_S = 2.0  # a server that is crowded again after this time was held up twice
_CROWDED_BACK_OFF, _BACK_OFF, _GIVEN_UP = 0.9, 0.7, 0.5
# Per second: of all frames, of the share, and of the share while the server is free.
_RISE, _GROWTH, _FREE_GROWTH = 0.01, 0.07, 0.15
# The share rises at most by this factor between two responses, or to this value if that is more.
_STEP, _FIRST_STEP = 1.5, 0.1
_BLOCKED = 2.0  # times that a response has taken when it is given up
_MOST_IN_FLIGHT = 4  # requests
_FEWEST = 4  # frames worth a request, whose overhead is that of about one more
_PATIENCE_S, _LONGEST_PATIENCE_S = 0.4, 2.0
_PATIENCE_GROWTH = 1.3  # factor for each refusal in a row


class ServerShare:
    """The share of its frames that a session requests.

    It rises by a constant amount per second and by a part of itself, and falls by a factor when a response
    comes late or the server refuses a request. By the constant amount many sessions share a server evenly and
    without knowing of each other (additive increase, multiplicative decrease: Chiu and Jain, 1989); by the
    part of itself few sessions soon have all of it. Chance decides which requests are refused; without it a
    session whose requests always come at a bad moment would get nothing.

    Attributes:
        share: 1 unless the server is overloaded.
        most_in_flight: requests that may be in flight at once.
    """

    def __init__(self) -> None:
        self.share = self._before_fall = 1.0
        self.most_in_flight = 1
        self._credit = 0.0  # frames
        self._worth = _FEWEST  # frames that the next request asks for at least
        self._patience_s = _PATIENCE_S
        self._most = 1.0  # until the next response
        self._fell_at = self._at = self._blocked_until = self._crowded_at = -math.inf
        self._free = False
        self._waiting_since: float | None = None

    @property
    def patience_s(self) -> float:
        """Longest wait in the server's queue for the next request, in seconds.

        It is short, so that the server drops requests rather than that all come late; and longer after each
        refusal, so that nobody is refused for long.
        """
        return self._patience_s * random.uniform(0.5, 1.5)

    def granted(self, now: float, count: int) -> int:
        """Return how many of the next `count` frames to request."""
        if self.share < 1.0 and now >= self._blocked_until:
            rise = _RISE + (_FREE_GROWTH if self._free else _GROWTH) * self.share
            self.share = min(1.0, self._most, self.share + rise * (now - self._at))
        self._at = now
        self._credit = min(self._credit + count * self.share, 2.0 * count)
        # An even number below the whole: a server may take no longer for two frames than for one.
        wanted = count if self.share >= 1.0 else min(count, int(self._credit) // 2 * 2)
        if now < self._blocked_until or wanted < min(self._worth, count):
            return 0
        self._credit -= wanted
        self._worth = random.randrange(_FEWEST, 2 * _FEWEST + 1, 2)
        return wanted

    def sent(self, now: float) -> None:
        """Note a request."""
        if self._waiting_since is None:
            self._waiting_since = now

    def answered(self, now: float, sent_at: float, had_s: float) -> None:
        """Note a response, and how much time there was for it."""
        self.heard()
        self._patience_s = _PATIENCE_S
        took_s, usual_s = now - sent_at, min(had_s, _LONGEST_S)
        self._free = took_s < _FREE * usual_s
        late = took_s > had_s
        if late or (took_s > _CROWDED * usual_s and self._crowded_again(now, sent_at)):
            factor = _BACK_OFF * had_s / took_s if late else _CROWDED_BACK_OFF
            self.most_in_flight = 1
            self._fall(now, sent_at, factor)
            self.share = max(_LEAST, min(self.share, self._before_fall * factor))
            if late:
                return
        self._limit_rise()
        if self._free:
            self.most_in_flight = _MOST_IN_FLIGHT

    def _crowded_again(self, now: float, sent_at: float) -> bool:
        """Return whether the server is overloaded, and not held up for once while all frames were wanted."""
        if self.share < 1.0:
            return True
        if now - self._crowded_at > _ONCE_S:
            self._crowded_at = now
        return sent_at > self._crowded_at

    def given_up(self, now: float, sent_at: float) -> None:
        """Note that a response is not there in time: for a while another one would be later still."""
        self._blocked_until = now + _BLOCKED * (now - sent_at)
        self._fall(now, sent_at, _GIVEN_UP)

    def unblock(self) -> None:
        """Note that the request that was given up has ended."""
        self._blocked_until = -math.inf

    def refused(self, now: float, sent_at: float) -> None:
        """Note that the server was too busy for a request."""
        self.heard()
        self._fall(now, sent_at, _BACK_OFF)
        self._patience_s = min(_LONGEST_PATIENCE_S, self._patience_s * _PATIENCE_GROWTH)

    def heard(self) -> None:
        """Note that the server responded, in whatever way."""
        self._waiting_since = None

    def silent_s(self, now: float) -> float:
        """Return for how long requests have been without any response."""
        return 0.0 if self._waiting_since is None else now - self._waiting_since

    def _fall(self, now: float, sent_at: float, factor: float) -> None:
        if sent_at > self._fell_at:  # what was sent before is no answer to the last fall
            self._before_fall = self.share
            self.share = max(_LEAST, self.share * factor)
            self._fell_at = now
            self._limit_rise()

    def _limit_rise(self) -> None:
        self._most = max(_FIRST_STEP, _STEP * self.share)
