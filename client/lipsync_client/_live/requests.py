"""The requests of a live session: one for each chunk that the schedule decides on."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .. import protocol
from .._avatar import Avatar
from .._errors import (
    Incompatible,
    NotAllowed,
    Overloaded,
    QueueTimeout,
    Rejected,
    ServerError,
)
from .._render import RenderOptions, request_for
from .audio import LEAD, LiveAudio
from .chunk import Chunk
from .pool import Shared
from .schedule import Schedule

# A server that starts or stops knows no avatar, so UnknownAvatar may pass, like a lost server.
_FINAL = (Rejected, NotAllowed, Incompatible)
_MAKING = 0.6  # of the time for a response, at most, that is kept for making its frames
_ABANDONED_S = 1.0  # longest wait for the response to a request that is no longer wanted


class ChunkRequests:
    """The requests of a session that are in flight.

    Args:
        shared: with the client's other sessions.
        avatar, options: of the session.
        audio: that the slices are cut from.
        schedule: that is to know of the responses.
        timeout_s: longest wait for a response.
        changed: called after each response.

    Attributes:
        final_error: the server refused a request, and would refuse the next one too.
    """

    def __init__(
        self,
        shared: Shared,
        avatar: Avatar,
        options: RenderOptions,
        audio: LiveAudio,
        schedule: Schedule,
        timeout_s: float,
        changed: Callable[[], None],
    ) -> None:
        self._shared, self._avatar, self._options = shared, avatar, options
        self._audio, self._schedule, self._changed = audio, schedule, changed
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[Chunk, asyncio.Future[list[Any]]] = {}
        self._late: Chunk | None = None  # given up, but its response shows that the server works
        self._abandoned: dict[asyncio.Future[list[Any]], asyncio.TimerHandle] = {}
        self._last_error: ServerError | None = None
        self._checking: asyncio.Task[None] | None = None
        self.final_error: BaseException | None = None

    def send(self, chunk: Chunk) -> None:
        """Request a chunk, unless its frames are there or will not be wanted."""
        if chunk.frames is not None:
            return
        if chunk.idle:
            index = self._schedule.loop_index(chunk.start)
            self._await(chunk, self._shared.idle.fetch(index, chunk.wanted, self._timeout_s))
        else:
            self._send_speech(chunk, self._schedule.share.patience_s)

    def _send_speech(self, chunk: Chunk, patience_s: float) -> None:
        """Request a chunk of speech, which waits in the server's queue for no longer than is of use."""
        begin, samples = self._audio.slice(chunk.start, chunk.wanted)
        left_s = max(0.0, chunk.deadline - self._loop.time())
        left_s -= min(self._shared.speed.time_for(chunk.wanted), _MAKING * left_s)
        request = request_for(
            self._avatar,
            self._options,
            samples,
            begin,
            protocol.LIVE,
            chunk.start + LEAD,
            chunk.wanted,
            self._options.loop_offset - LEAD,
        )
        request = replace(request, queue_s=min(patience_s, left_s))
        self._await(chunk, self._shared.fetch(request, chunk.wanted, self._timeout_s))

    def _await(self, chunk: Chunk, task: asyncio.Future[list[Any]]) -> None:
        self._schedule.share.sent(chunk.sent_at)
        self._tasks[chunk] = task
        task.add_done_callback(lambda task: self._done(chunk, task))

    def cancel(self, chunk: Chunk) -> None:
        """Cancel the request for a chunk that is no longer wanted."""
        task = self._tasks.pop(chunk, None)
        if task is not None:
            task.cancel()
            self._unblock(chunk)

    def abandon(self, chunks: list[Chunk]) -> None:
        """Let go of the requests for chunks that are no longer wanted.

        The server is at work on the first of them, and would finish it: that one counts as in flight until
        its response comes, for as long as that usually takes. The others are cancelled.
        """
        for chunk in sorted(chunks, key=lambda chunk: chunk.sent_at):
            task = self._tasks.get(chunk)
            if task is None or chunk.idle or self._abandoned:
                self.cancel(chunk)
                continue
            del self._tasks[chunk]
            self._unblock(chunk)
            self._abandoned[task] = self._loop.call_later(_ABANDONED_S, task.cancel)
            self._schedule.abandoned = len(self._abandoned)
            task.add_done_callback(self._end_abandoned)

    def _end_abandoned(self, task: asyncio.Future[list[Any]]) -> None:
        self._abandoned.pop(task).cancel()
        self._schedule.abandoned = len(self._abandoned)
        if not task.cancelled() and task.exception() is None:
            self._schedule.share.heard()
        self._changed()

    def give_up(self, chunk: Chunk) -> None:
        """Note that a chunk's response is too late.

        The request runs on, so that it can be seen how late it is, and none is sent for a while; but others
        that are late as well are cancelled.
        """
        if self._late is not None and self._late.sent_at + self._timeout_s / 2 > chunk.sent_at:
            self.cancel(chunk)
        elif chunk in self._tasks:
            if self._late is not None:
                self.cancel(self._late)
            self._late = chunk
            self._schedule.share.given_up(self._loop.time(), chunk.sent_at)

    def check(self) -> None:
        """Raise the server's error if it is final.

        A server that has not responded for too long is asked for the avatar's config: an overloaded one
        returns it, a lost one does not.

        Raises:
            LipSyncError: the session must end.
        """
        if self.final_error is not None:
            raise self.final_error
        silent = self._schedule.share.silent_s(self._loop.time()) >= self._timeout_s
        if silent and self._checking is None:
            self._checking = asyncio.create_task(self._check())

    async def _check(self) -> None:
        try:
            if self._last_error is not None:
                raise self._last_error
            await self._shared.backend.config(self._avatar.name)
            self._schedule.share.heard()
        except ServerError as error:
            self.final_error = error
            self._changed()
        finally:
            self._checking = None

    async def close(self) -> None:
        """Cancel all requests."""
        tasks: list[asyncio.Future[Any]] = [*self._tasks.values(), *self._abandoned]
        if self._checking is not None:
            tasks.append(self._checking)
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, chunk: Chunk, task: asyncio.Future[list[Any]]) -> None:
        if self._tasks.pop(chunk, None) is None:  # cancelled, or abandoned
            if not task.cancelled():
                task.exception()
            return
        error, now = task.exception(), self._loop.time()
        if isinstance(error, QueueTimeout) and self._may_wait(chunk, now):
            chunk.sent_again = True
            self._send_speech(chunk, math.inf)
            return
        self._unblock(chunk)
        if error is None:
            self._last_error = None
            self._schedule.came(chunk, task.result(), now)
        else:
            self._note_error(error, chunk, now)
        self._changed()

    def _may_wait(self, chunk: Chunk, now: float) -> bool:
        """Return whether a chunk that was refused is requested again: its frames may wait for it."""
        schedule = self._schedule
        may_wait = schedule.times.left_s > 0 and schedule.share.share >= 1.0
        return may_wait and now < chunk.deadline and chunk.frames is None and not chunk.sent_again

    def _unblock(self, chunk: Chunk) -> None:
        """Note that a chunk's request has ended; if it was the late one, others are sent again."""
        if chunk is self._late:
            self._late = None
            self._schedule.share.unblock()

    def _note_error(self, error: BaseException, chunk: Chunk, now: float) -> None:
        if isinstance(error, _FINAL) or not isinstance(error, ServerError):
            self.final_error = error
        elif isinstance(error, Overloaded):
            self._schedule.share.refused(now, chunk.sent_at)
        else:
            self._last_error = error
        chunk.miss(now)
