"""Frames of the avatar with its mouth closed: the same each time round the loop, so requested once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import protocol
from .._avatar import Avatar
from .._render import RenderOptions, request_for
from .._transports.request import Request
from .audio import LEAD

Fetch = Callable[[Request, int, float], asyncio.Task[list[Any]]]
_REST = 100  # frames
_MOST_REQUESTED = 2  # chunks at a time; frames of speech have the server otherwise


class IdleFrames:
    """The idle frames of an avatar, kept as far as the budget allows and shared by its sessions.

    Frames that are complete images are kept one by one, and once for both directions of the loop. H.264
    access units build on those before them: they are kept in the chunks in which they were made.

    Args:
        avatar: that is idle.
        options: the output and the encoder options count.
        budget: most bytes that are kept.
        fetch: sends a request for so many frames, with a timeout; the task returns them.

    Attributes:
        period: frames of a time round the loop.
    """

    def __init__(self, avatar: Avatar, options: RenderOptions, budget: int, fetch: Fetch) -> None:
        self._avatar, self._options, self._fetch = avatar, options, fetch
        self._budget = budget
        self.period = 2 * (avatar.frames - 1) or 1
        self._single = options.requested_output != "H264"
        # By the place in the loop; chunks also by the number of their frames.
        self._frames: list[Any] = [None] * self.period
        self._chunks: dict[tuple[int, int], Sequence[Any]] = {}
        self._requested: dict[tuple[int, int], asyncio.Task[list[Any]]] = {}

    def get(self, loop_index: int, count: int) -> Sequence[Any] | None:
        """Return idle frames from a place in the loop on, up to its end; None if they are not kept."""
        if not self._single:
            return self._chunks.get((loop_index, count))
        frames = self._frames[loop_index : loop_index + count]
        return None if any(frame is None for frame in frames) else frames

    def count_at(self, loop_index: int, chunk: int) -> int:
        """Return how many idle frames are requested at once from a place on; the same in each round."""
        return min(chunk - loop_index % chunk, self.period - loop_index)

    def rest(self, loop_index: int, chunk: int) -> list[Any]:
        """Return the idle frames that are kept from a place on, some seconds of them at most."""
        frames: list[Any] = []
        while len(frames) < _REST:
            index = (loop_index + len(frames)) % self.period
            kept = self.get(index, self.count_at(index, chunk))
            if kept is None:
                break
            frames.extend(kept)
        return frames

    def can_fetch(self, loop_index: int, count: int) -> bool:
        """Return whether idle frames are requested already, or may be now."""
        return len(self._requested) < _MOST_REQUESTED or (loop_index, count) in self._requested

    def fetch(self, loop_index: int, count: int, timeout_s: float) -> asyncio.Future[list[Any]]:
        """Request idle frames that are not kept; the future returns them.

        Args:
            loop_index: place in the loop of the first one.
            count: at least 1.
            timeout_s: longest wait for the server.

        Raises:
            ServerError: the request failed.
        """
        key = (loop_index, count)
        task = self._requested.get(key)
        if task is None:
            task = self._requested[key] = self._request(key, timeout_s)
            task.add_done_callback(lambda task: self._done(key, task))
        # Shielded: a session that ends, or waits no longer, must not take the frames from the others.
        return asyncio.shield(task)

    async def close(self) -> None:
        """Cancel the requests that are in flight."""
        tasks = list(self._requested.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _request(self, key: tuple[int, int], timeout_s: float) -> asyncio.Task[list[Any]]:
        loop_index, count = key
        begin, end = protocol.sample_range(protocol.LIVE, LEAD, count)
        silence = np.zeros(end - begin, np.float32)
        request = request_for(
            self._avatar,
            self._options,
            silence,
            begin,
            protocol.LIVE,
            LEAD,
            count,
            loop_index - LEAD,
        )
        return self._fetch(request, count, timeout_s)

    def _done(self, key: tuple[int, int], task: asyncio.Task[list[Any]]) -> None:
        del self._requested[key]
        if task.cancelled() or task.exception() is not None:
            return  # those who wait for it get the error
        frames, loop_index = task.result(), key[0]
        if not self._single:
            if key not in self._chunks and self._fits(frames):
                self._chunks[key] = frames
            return
        for index, frame in enumerate(frames, loop_index):
            if self._frames[index] is None and self._fits([frame]):
                self._frames[index] = self._frames[self._mirrored(index)] = frame

    def _fits(self, frames: Sequence[Any]) -> bool:
        """Take the room for frames from the budget; return False if there is not enough."""
        size = sum(len(f) if isinstance(f, bytes) else f.nbytes for f in frames)
        if size > self._budget:
            return False
        self._budget -= size
        return True

    def _mirrored(self, loop_index: int) -> int:
        """Return the other place in the loop that shows the same frame (docs/contract.md)."""
        last = max(1, self._avatar.frames - 1)
        return (2 * last - 2 - loop_index) % self.period
