"""The clock of a live session, and what it does about a server that is too slow."""

from __future__ import annotations

from dataclasses import dataclass

from .. import protocol as timeline
from .audio import FRAME, LEAD

FPS = timeline.FPS
GRACE_S = 0.1  # pictures so late are shown at once, and the next in time again
LOOK_AHEAD_S = (timeline.live_end(LEAD) - LEAD * FRAME) / timeline.SAMPLE_RATE
_IN_FLIGHT = 3  # chunks
_MEMORY = 0.5  # of the past in the running mean of the server's times
_CATCH_UP = 0.1  # of the time at rest is left out until no latency is left that a slow server added


@dataclass(frozen=True)
class LiveOptions:
    """The options of a live session.

    The time from a sample to its frame is LOOK_AHEAD_S (0.4525 s, which the models need) + (chunk - 1) / 25
    + margin_s + jitter_s: 0.87 s as they stand.

    Attributes:
        rate: Hz of the sound; a multiple of 25.
        channels: of the sound.
        chunk: frames a request.
        margin_s: a chunk is asked for so long before it is due, or as soon as its sound is there.
        jitter_s: the sound may come so unevenly.
        stall_s: so long picture and sound wait, all in all, for a server that is late; that adds to the
            latency until the avatar rests again. A server that is slower still costs pictures.
        queue_s: sound that may wait for its turn; `feed` waits beyond.
        timeout_s: longest wait for one request; the first may take `reconnect_timeout_s`.
        reconnect_timeout_s: longest time without a response from the server; the session ends with the
            server's error after it.
        idle_mb: pictures of the resting avatar that are kept.
    """

    rate: int = timeline.SAMPLE_RATE
    channels: int = 1
    chunk: int = 5
    margin_s: float = 0.2
    jitter_s: float = 0.06
    stall_s: float = 1.0
    queue_s: float = 30.0
    timeout_s: float = 5.0
    reconnect_timeout_s: float = 15.0
    idle_mb: int = 64

    @property
    def latency_s(self) -> float:
        """From a sample to its frame, for sound that comes evenly."""
        return LOOK_AHEAD_S + (self.chunk - 1) / FPS + self.margin_s + self.jitter_s


class Pace:
    """The time of each frame, and the load that the server is given.

    Attributes:
        begun_at: when frame 0 was due, in monotonic time; None before.
    """

    def __init__(self, live: LiveOptions) -> None:
        self._live = live
        self.begun_at: float | None = None
        self._added_s = self._usual_s = self._answered_at = 0.0
        # Pictures of a chunk that are asked for; with all of them, chunks under way beyond the first.
        self._level = self._most = live.chunk + _IN_FLIGHT - 1

    def begin(self, now: float) -> None:
        """The first frame is due when there was time for a chunk."""
        self.begun_at = self._answered_at = now + self._live.margin_s

    def due(self, frame: int) -> float:
        """Return the time at which a frame is given."""
        return (self.begun_at or 0.0) + frame / FPS

    def ask_at(self, frame: int) -> float:
        """Return the latest time to request a chunk, whether its audio has come or not."""
        return self.due(frame) - self._live.margin_s

    def latest(self, frame: int) -> float:
        """Until when the pictures of a chunk are waited for."""
        return self.due(frame) + GRACE_S + self._may_wait_s

    @property
    def ahead(self) -> int:
        """Frames that may be asked for before they are due: an interruption loses them."""
        return 2 * self._live.chunk + int(self._added_s * FPS)

    def earliest(self, now: float) -> int:
        """The server's sample at which sound that comes from now on, evenly, is always in time."""
        if self.begun_at is None:
            return 0
        ahead = now - self.begun_at + self._live.margin_s + self._live.jitter_s + LOOK_AHEAD_S
        return int(ahead * timeline.SAMPLE_RATE) + (LEAD + self._live.chunk - 1) * FRAME

    def in_time(self, start: int, count: int, now: float, under_way: int) -> int:
        """Return the number of a chunk's frames to request now; 0 to leave it out.

        A server that is too slow is asked for as many as it can make, not for all of them late.
        """
        if under_way >= max(1, 1 + self._level - self._live.chunk):
            return 0
        longest = self._live.margin_s + self._added_s + GRACE_S + self._may_wait_s
        left = self.latest(start) - now
        return min(count, self._level) if left >= min(self._usual_s, 0.8 * longest) else 0

    def answered(self, now: float, took_s: float) -> None:
        """The server made a chunk, in time or not."""
        self._usual_s = _MEMORY * (self._usual_s or took_s) + (1 - _MEMORY) * took_s
        self._answered_at = now

    def came(self, start: int, now: float) -> None:
        """A chunk's pictures are there."""
        self._answered_at = now
        late_s = now - self.due(start)
        if late_s > GRACE_S:
            self._delay(late_s)
        else:
            self._level = min(self._most, self._level + 1)

    def missed(self) -> None:
        """A chunk's pictures were not there in time."""
        self._level = max(1, self._level - 2)

    def rested(self) -> None:
        """A frame at rest: time to make good what was lost."""
        if self._added_s > 0:
            self._delay(-min(self._added_s, _CATCH_UP / FPS))

    def silent_s(self, now: float) -> float:
        """For how long the server has not answered."""
        return now - self._answered_at

    @property
    def _may_wait_s(self) -> float:
        return max(0.0, self._live.stall_s - self._added_s)

    def _delay(self, seconds: float) -> None:
        """Move all that is to come."""
        self.begun_at = (self.begun_at or 0.0) + seconds
        self._added_s += seconds
