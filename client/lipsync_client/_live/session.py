"""A live session: audio in as it comes, 25 frames per second out.

The session is one endless clip. The server keeps nothing of it: each request holds the audio that its frames
depend on, so any replica can answer any request. What to request, and when to give each frame, is decided in
`schedule.py`; here are the clock and the callers.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from .._avatar import Avatar
from .._errors import InputError
from .._render import RenderOptions
from ..protocol import FPS
from .audio import LiveAudio
from .chunk import Chunk
from .feeder import Feeder
from .frame import LiveEvent, LiveFrame
from .given import GivenFrames
from .options import LiveOptions
from .pool import LivePool
from .replies import Replies
from .report import LiveReport
from .requests import ChunkRequests
from .schedule import Schedule

_AFTER_INTERRUPT = 1  # frames that are still given with their audio
_ROUNDING_S = 1e-6


class LiveSession:
    """A live session; made by `AsyncLipSyncClient.live`.

    Frames come at 25 per second for as long as they are taken, with or without audio. Audio that comes faster
    than it is spoken is played as soon as the server can keep up with it. Audio that comes too slowly, and a
    server that is too slow, make video and audio wait together.

    Attributes:
        options: of the session.
        report: its figures so far.

    Example:
        async with client.live("demo") as session:
            session.feed_from(microphone)  # or: await session.feed(samples); session.flush()
            async for frame in session:
                show(frame.video, frame.audio)
    """

    def __init__(
        self,
        pool: LivePool,
        avatar: Avatar,
        options: RenderOptions,
        live_options: LiveOptions,
        on_event: Callable[[LiveEvent], object] | None = None,
    ) -> None:
        if live_options.chunk > avatar.max_frames:
            raise InputError(
                f"a chunk must be 1 to {avatar.max_frames} frames, got {live_options.chunk}"
            )
        if live_options.rgb and options.requested_output != "FRAMES":
            raise InputError(f"rgb needs the output FRAMES, got {options.requested_output}")
        self.options, self.report = live_options, LiveReport()
        self._pool, self._shared = pool, pool.join(avatar, options, live_options)
        self._audio = LiveAudio(live_options)
        self._schedule = Schedule(
            live_options,
            self._audio,
            self._shared.speed,
            self._shared.idle,
            options.loop_offset,
            self.report,
        )
        self._requests = ChunkRequests(
            self._shared,
            avatar,
            options,
            self._audio,
            self._schedule,
            live_options.reconnect_timeout_s,
            self._changed,
        )
        self._replies = Replies(on_event or (lambda _: None), self.report)
        self._feeder = Feeder(
            live_options, self._audio, self._schedule, self._replies, self._advance
        )
        self._given = GivenFrames(self._schedule, self._audio, self._replies, self.report)
        self._loop = asyncio.get_running_loop()
        self._failure: BaseException | None = None
        self._closed = self._taken = False
        self._undisturbed = False  # nothing has happened since a frame at rest
        self._rests_until = -math.inf
        self._waiter: asyncio.Future[None] | None = None
        self._waits_for_change = False

    async def __aenter__(self) -> LiveSession:
        """Request the first idle frames, so that an error of the server or the avatar shows now.

        Raises:
            ServerError: the request failed.
        """
        try:
            index, count = self._schedule.idle_range(0)
            if self._shared.idle.get(index, count) is None:
                await self._shared.idle.fetch(index, count, self.options.reconnect_timeout_s)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def position(self) -> int:
        """Number of the fed samples that are played, or were dropped by an interruption."""
        return self._audio.played(self._schedule.at)

    @property
    def latency_s(self) -> float:
        """Seconds from a sample to its frame, for audio at the pace of speech that begins now."""
        return self._schedule.latency_s

    async def feed(self, samples: NDArray[Any]) -> None:
        """Add audio; it is played after what was fed before, or as soon as can be.

        It waits while `queue_s` of audio are queued.

        Args:
            samples: (n,) or (n, channels), any n; float in -1..1 or int16.

        Raises:
            InputError: other samples, or the session was finished or closed.
        """
        await self._feeder.feed(samples)

    def feed_from(self, source: AsyncIterable[NDArray[Any]], *, finish: bool = True) -> None:
        """Feed all that a source yields, in the background, and end the reply after it.

        An error of the source finishes the session: those who take the frames get it when what came before
        has been played.

        Args:
            source: yields samples as `feed` takes them.
            finish: finish the session after it.
        """
        self._feeder.feed_from(source, self.finish if finish else self.flush, self.fail)

    def flush(self) -> None:
        """End a reply: its last frames do not wait for audio that will not come."""
        if self._replies.flush(self._audio.fed):
            self._audio.end_reply()
            self._schedule.flush()
            self._advance()

    def finish(self) -> None:
        """End the last reply, and the session after it."""
        self.flush()
        self._feeder.over = True
        self._schedule.finish()
        self._changed()

    def fail(self, error: BaseException) -> None:
        """Finish, and raise an error to those who take the frames when the audio has been played."""
        self._failure = error
        self.finish()

    def interrupt(self) -> int:
        """Drop the audio that is queued: after one more frame the avatar closes its mouth.

        Returns:
            How many samples of the reply, as it was fed, will have been played.
        """
        if not self._replies.pending:
            return 0
        frame = self._schedule.at + _AFTER_INTERRUPT
        heard = self._replies.interrupt(self._loop.time(), self._audio.played(frame))
        self._requests.abandon(self._schedule.interrupt(frame))
        self._given.interrupted(frame)
        self._feeder.make_room()
        self._changed()
        return heard

    async def close(self) -> None:
        """End the session at once; frames that were not taken are lost."""
        if self._closed:
            return
        self._closed = True
        self._undisturbed = False
        self._wake()
        await self._feeder.close()
        await self._requests.close()
        await self._pool.leave(self._shared)

    async def __aiter__(self) -> AsyncGenerator[LiveFrame, None]:
        """Yield the frames, each when it is due.

        Raises:
            ServerError: the server refused a request, or has not responded for `reconnect_timeout_s`.
            Exception: the error of a source given to `feed_from`.
        """
        if self._taken:
            raise InputError("the frames of a session can be taken once")
        self._taken = True
        begin = self._loop.time() + self._schedule.preparation_s
        self._schedule.times.begin(self._pool.clock.after(begin))
        while (chunk := await self._next()) is not None:
            frame = self._given.next(chunk, self._loop.time())
            self._feeder.make_room()
            yield frame
            # A session that rests needs nothing for its next frames but the time.
            until = self._rests_until if self._undisturbed else -math.inf
            for due, frame in self._given.rest(chunk, until):
                if self._undisturbed:
                    self._waiter = self._pool.clock.beat(due)
                    await self._waiter
                if not self._undisturbed:
                    break
                self._given.note_rest(self._loop.time())
                yield frame
        if self._failure is not None and not self._closed:
            raise self._failure

    async def _next(self) -> Chunk | None:
        """Wait until the next frame is to be given; return its chunk, None at the end."""
        schedule = self._schedule
        while not self._closed:
            now, due = self._loop.time(), schedule.times.due(schedule.at)
            if now >= self._rests_until:
                self._advance()
            if schedule.is_over:
                return None
            if now < due - _ROUNDING_S:
                self._waiter = self._pool.clock.beat(due)
                await self._waiter
                continue
            chunk = schedule.current()
            if chunk is None or chunk.frames is None:
                until = now + 1 / FPS if chunk is None else schedule.latest(chunk)
                if chunk is None or now < until:
                    await self._wait_for_change(until)
                    continue
                chunk.miss(now)
                if not chunk.idle:  # idle frames that come later are kept
                    self._requests.give_up(chunk)
            if not chunk.frames:
                self._requests.check()
            if schedule.times.catch_up(schedule.at, chunk.done_at) <= now + _ROUNDING_S:
                self._undisturbed = chunk.idle and bool(chunk.frames) and not self._replies.pending
                return chunk
        return None

    def _advance(self) -> None:
        """Carry out what the schedule decides now."""
        self._undisturbed = False
        if self._closed:
            return
        now = self._loop.time()
        self._requests.abandon(self._schedule.place(now))
        while (chunk := self._schedule.next(now)) is not None:
            self._requests.send(chunk)
        self._rests_until = self._schedule.rests_until

    def _changed(self) -> None:
        self._advance()
        if self._waits_for_change:
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait_for_change(self, until: float) -> None:
        """Wait for a response, an interruption or a time."""
        self._waiter = self._loop.create_future()
        self._waits_for_change = True
        timer = self._loop.call_at(until, self._wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waits_for_change = False
