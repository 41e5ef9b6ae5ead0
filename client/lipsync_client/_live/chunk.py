"""The chunks of frames that a live session has decided on and not yet given."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class Chunk:
    """Consecutive frames that one request returns.

    Attributes:
        start: number of the first one.
        count: number of frames that are given; it shrinks when audio changes.
        wanted: number of frames that are requested; the others repeat the last one.
        idle: the frames depend on nothing but silence.
        sent_at: when it was requested.
        deadline: until when it was of use then.
        sent_again: it was requested a second time, because the server refused it.
        done_at: when the response came, or was given up.
        frames: the response; empty if it was given up, None before.
    """

    start: int
    count: int
    wanted: int
    idle: bool
    sent_at: float
    deadline: float = math.inf
    sent_again: bool = False
    done_at: float = math.inf
    frames: Sequence[Any] | None = field(default=None, repr=False)

    @property
    def end(self) -> int:
        return self.start + self.count

    def miss(self, now: float) -> None:
        """Give the chunk up: its response is not there in time, or will never be."""
        self.frames, self.done_at = (), now


class Chunks:
    """The chunks from the next frame to give on, without a gap.

    Attributes:
        end: of the last one.
    """

    def __init__(self) -> None:
        self._chunks: deque[Chunk] = deque()
        self.end = 0

    def add(self, chunk: Chunk) -> None:
        """Add the chunk that begins at `end`."""
        self._chunks.append(chunk)
        self.end = chunk.end

    def at(self, frame: int) -> Chunk | None:
        """Return the chunk of a frame, and forget those before it; None if it is not decided on."""
        while self._chunks and self._chunks[0].end <= frame:
            self._chunks.popleft()
        return self._chunks[0] if self._chunks else None

    @property
    def in_flight(self) -> int:
        """Number of chunks of speech whose responses have not come."""
        return sum(chunk.frames is None and not chunk.idle for chunk in self._chunks)

    def drop_from(self, frame: int) -> list[Chunk]:
        """Forget the chunks from a frame on; return those of which nothing is left."""
        dropped = []
        while self._chunks and self._chunks[-1].end > frame:
            last = self._chunks[-1]
            if last.start < frame:
                last.count = frame - last.start
                break
            dropped.append(self._chunks.pop())
        self.end = min(self.end, frame)
        return dropped
