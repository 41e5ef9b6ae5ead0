"""The replies of a live session: what was fed and played of each, and its events."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from .frame import EventKind, LiveEvent
from .report import LiveReport


@dataclass(eq=False)
class _Reply:
    """Attributes: number; begin, end: positions among the fed samples, end None while it is fed."""

    number: int
    begin: int
    end: int | None = None
    moved: bool = False
    started: bool = False

    def played(self, position: int) -> int:
        """Return how many of its samples are over at a position among the fed samples."""
        end = position if self.end is None else self.end
        return max(0, min(position, end) - self.begin)


class Replies:
    """The replies that are fed and not yet over.

    Args:
        notify: called with each event.
        report: that they are counted in.
    """

    def __init__(self, notify: Callable[[LiveEvent], object], report: LiveReport) -> None:
        self._notify, self._report = notify, report
        self._replies: deque[_Reply] = deque()
        self._count = 0

    def fed(self, now: float, fed: int) -> None:
        """Note audio that is about to follow the `fed` samples before it."""
        if not self._replies or self._replies[-1].end is not None:
            self._replies.append(_Reply(self._count, fed))
            self._count += 1
            self._event("first_audio", self._replies[-1], now, fed)

    @property
    def pending(self) -> bool:
        """A reply was fed and is not over."""
        return bool(self._replies)

    def flush(self, fed: int) -> bool:
        """End the reply that is fed; return whether there was one."""
        if not self._replies or self._replies[-1].end is not None:
            return False
        self._replies[-1].end = fed
        return True

    def given(self, now: float, played: int, *, moves: bool) -> bool:
        """Note that a frame is given while a reply is pending.

        Args:
            now: when.
            played: fed samples that are over at the frame's end.
            moves: the frame's mouth moves for the audio that was placed last.

        Returns:
            Whether the frame ends a reply.
        """
        reply = self._replies[0]
        starts = played > reply.begin
        if (moves or starts) and not reply.moved:
            reply.moved = True
            self._event("first_frame", reply, now, played)
        if starts and not reply.started:
            reply.started = True
            self._event("playback_started", reply, now, played)
        if reply.end is None or played < reply.end:
            return False
        self._replies.popleft()
        self._report.replies += 1
        self._event("playback_finished", reply, now, played)
        return True

    def interrupt(self, now: float, played: int) -> int:
        """End all replies; return how many samples of the first one are played in all.

        Args:
            now: when.
            played: fed samples that are over when the frames that are still given end.
        """
        heard = self._replies[0].played(played) if self._replies else 0
        while self._replies:
            self._report.interruptions += 1
            self._event("interrupted", self._replies.popleft(), now, played)
        return heard

    def _event(self, kind: EventKind, reply: _Reply, now: float, played: int) -> None:
        self._notify(LiveEvent(kind, reply.number, now, reply.played(played)))
