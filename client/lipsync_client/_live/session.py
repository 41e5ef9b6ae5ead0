"""Live sessions: sound in as it comes, pictures and sound out at 25 a second.

The session is one endless clip. The server keeps nothing of it: each request carries the slice of sound its
frames depend on, so any replica takes any of them.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from .. import protocol as timeline
from .._avatar import Avatar
from .._errors import Incompatible, InputError, NotAllowed, Rejected, ServerError
from .._render import RenderBackend, RenderOptions, frames_of, request_for
from .audio import LEAD, LiveAudio, Samples, is_silent
from .idle import IdleFrames
from .report import LiveReport
from .schedule import FPS, LiveOptions, Pace

# A server that starts or stops knows no avatar, so UnknownAvatar may pass, like a lost server.
_HOPELESS = (Rejected, NotAllowed, Incompatible)
_STEPS_TO_IDLE = 2  # frames
_OFTEN_S = 0.02  # between two looks whether there is room for a chunk


@dataclass(frozen=True)
class LiveFrame:
    """One 25th of a second.

    Attributes:
        index: of the output, from 0.
        video: H.264 access unit or JPEG (bytes), or uint8 (H, W, 3) BGR; None where the server was too
            slow: the previous frame is repeated.
        audio: float32 (rate / 25, channels) in -1..1.
        idle: no audio is near, and the mouth is closed.
        loop_index: place in the avatar's loop.
    """

    index: int
    video: Any
    audio: Samples
    idle: bool
    loop_index: int


@dataclass(eq=False)
class _Chunk:
    start: int
    count: int
    phase: int
    idle: bool
    task: asyncio.Task[list[Any]] | None  # None: there was no time to ask for it

    @property
    def end(self) -> int:
        return self.start + self.count


class LiveSession:
    """A live session; made by `AsyncLipSyncClient.live`.

    Frames come at 25 a second for as long as someone asks for them, with or without sound. Picture and sound
    stay together whatever happens. A server that is late makes both wait, for `stall_s` in all; beyond that
    fewer pictures are asked for, each stands until the next, and the sound goes on. Where no sound comes,
    there is silence. Who takes the frames too slowly gets what they missed at once, the sound whole, the
    pictures as far as there is time.

    Example:
        async with client.live("demo") as session:
            asyncio.create_task(talk(session))  # await session.feed(samples); session.finish()
            async for frame in session:
                show(frame.video, frame.audio)
    """

    def __init__(
        self, transport: RenderBackend, avatar: Avatar, plan: RenderOptions, live: LiveOptions
    ) -> None:
        if not 1 <= live.chunk <= avatar.max_frames:
            raise InputError(f"a chunk must be 1 to {avatar.max_frames} frames, got {live.chunk}")
        self.live = live
        self.report = LiveReport()
        self._transport, self._avatar, self._plan = transport, avatar, plan
        self._audio = LiveAudio(live.rate, live.channels)
        self._idle = IdleFrames(transport, avatar, plan, live.idle_mb << 20)
        self._period = 2 * (avatar.frames - 1) or live.chunk
        self._phase = plan.loop_offset % self._period  # of the next chunk to be asked for
        self._planned = self._at = 0  # next frame to be asked for, and to be given
        self._chunks: deque[_Chunk] = deque()
        self._current: _Chunk | None = None
        self._under_way: set[asyncio.Task[Any]] = set()
        self._pace = Pace(live)
        self._finished = self._closed = self._short = False
        self._changed, self._room = asyncio.Event(), asyncio.Event()

    async def __aenter__(self) -> LiveSession:
        """Ask for the first pictures: what is wrong with the server or the avatar shows now.

        Raises:
            ServerError: of the request.
        """
        await self._idle.run(self._phase, self._count(self._phase), self.live.reconnect_timeout_s)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def feed(self, samples: NDArray[Any]) -> None:
        """Add sound; it plays after what was fed before, or as soon as can be.

        Args:
            samples: (n,) or (n, channels), float in -1..1 or int16.

        Raises:
            InputError: other samples, or the session has ended.
        """
        block = self._audio.checked(samples)
        for begin in range(0, len(block), self.live.rate):
            while self._audio.end / self.live.rate - self._at / FPS > self.live.queue_s:
                self._room.clear()
                self._refuse_if_over()
                await self._room.wait()
            self._refuse_if_over()
            now = time.monotonic()
            self._audio.feed(block[begin : begin + self.live.rate], now, self._pace.earliest(now))
            self._changed.set()

    def finish(self) -> None:
        """No more sound will come: the frames end when it has been played."""
        self._finished = True
        self._changed.set()

    def interrupt(self) -> None:
        """Drop the sound that is queued and go to rest, two frames' time from now at the latest.

        The avatar's own motion goes on, but for a step of up to chunk - 3 frames.
        """
        now, keep = self._current, self._at
        if now is None or now.end <= self._at:
            self._phase = self._chunks[0].phase if self._chunks else self._phase
        else:
            self._phase = (now.phase + now.count) % self._period
            if now.idle:
                keep = now.end
            elif now.start < self._at:
                keep = min(now.end, self._at + _STEPS_TO_IDLE)
            else:  # none of it was shown
                self._phase = now.phase
            now.count = keep - now.start
        self._chunks.clear()
        self._planned, self._short = keep, True
        self._audio.cut(keep)
        self._room.set()
        self._changed.set()

    async def close(self) -> None:
        """Let go of everything; frames that were not taken are lost."""
        self._closed = True
        self._room.set()
        self._changed.set()
        tasks = list(self._under_way)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._idle.close()

    async def __aiter__(self) -> AsyncGenerator[LiveFrame, None]:
        """Frames, each when it is due.

        Raises:
            ServerError: a request was refused, or no picture came for `reconnect_timeout_s`.
        """
        if self._pace.begun_at is not None:
            raise InputError("the frames of a session can be taken once")
        await self._idle.run(self._phase, self._count(self._phase), self.live.reconnect_timeout_s)
        self._pace.begin(time.monotonic())
        while (chunk := await self._next_chunk()) is not None:
            self._current = chunk
            made = await self._pictures(chunk)
            while self._at < chunk.end and not self._closed:
                due = self._pace.due(self._at)
                if not await self._until(due, lambda c=chunk: self._at >= c.end):  # type: ignore[misc]
                    yield self._frame(chunk, made)

    def _frame(self, chunk: _Chunk, made: list[Any]) -> LiveFrame:
        """The next frame, taken out of everything."""
        at, n = self._at, self._at - chunk.start
        picture, sound = made[n] if n < len(made) else None, self._audio.sound(at)
        self.report.frame(
            time.monotonic(), self._audio.arrived(at), repeated=picture is None, idle=chunk.idle
        )
        self._at += 1
        if chunk.idle:
            self._pace.rested()
        oldest, _ = timeline.sample_range(timeline.LIVE, self._at + LEAD, 1)
        self._audio.forget(self._at, oldest)
        self._room.set()
        return LiveFrame(at, picture, sound, chunk.idle, (chunk.phase + n) % self._period)

    def _count(self, phase: int) -> int:
        """Frames from a place in the motion to the end of its chunk.

        Chunks begin at the same places each time round, so that idle pictures can be kept.
        """
        return min(self.live.chunk - phase % self.live.chunk, self._period - phase)

    async def _next_chunk(self) -> _Chunk | None:
        while not self._closed:
            self._launch()
            if self._chunks:
                return self._chunks.popleft()
            if self._finished and self._planned >= self._audio.frames:
                return None
            await self._until(self._pace.due(self._planned), lambda: bool(self._chunks))
        return None

    async def _pictures(self, chunk: _Chunk) -> list[Any]:
        """A chunk's pictures; none if they are not there in time."""
        task = chunk.task
        if task is None:
            return self._none_came(None)
        await self._until(self._pace.latest(chunk.start), lambda: task.done() or not chunk.count)
        if not chunk.count:
            return []
        if not task.done():
            self._pace.missed()
            return self._none_came(None)
        try:
            made = task.result()
        except _HOPELESS:
            raise
        except ServerError as e:
            return self._none_came(e)
        self._pace.came(chunk.start, time.monotonic())
        return made

    def _none_came(self, error: ServerError | None) -> list[Any]:
        silent_s = self._pace.silent_s(time.monotonic())
        if silent_s > self.live.reconnect_timeout_s:
            raise error or ServerError(f"no picture came from the server for {silent_s:.0f} s")
        return []

    async def _until(self, when: float, ended: Callable[[], bool]) -> bool:
        """Wait, and ask for chunks as their sound comes.

        Returns:
            whether it `ended` before the time.
        """
        while not (self._closed or ended()):
            self._launch()
            now = time.monotonic()
            if now >= when:
                return ended()
            wake = max(self._pace.ask_at(self._planned), now + _OFTEN_S)
            self._changed.clear()
            with suppress(asyncio.TimeoutError, TimeoutError):
                await asyncio.wait_for(self._changed.wait(), min(when, wake) - now)
        return True

    def _launch(self) -> None:
        """Ask for every chunk whose sound is there or whose time has come."""
        while self._pace.begun_at is not None and self._planned - self._at <= self._pace.ahead:
            now, start = time.monotonic(), self._planned
            count = 1 if self._short else self._count(self._phase)
            if self._finished:
                count = min(count, self._audio.frames - start)
                if count <= 0:
                    return
            need = timeline.live_end(start + LEAD + count - 1)
            if not self._audio.has(need):
                if not self._finished and now < self._pace.ask_at(start):
                    return
                self._audio.fill_to(need)
            begin, end = timeline.sample_range(timeline.LIVE, start + LEAD, count)
            samples = self._audio.slice(begin, end)
            idle = is_silent(samples)
            task = None
            if idle:
                task = self._task(self._idle.run(self._phase, count, self.live.timeout_s))
            elif wanted := self._pace.in_time(start, count, now, len(self._under_way)):
                task = self._task(self._ask(samples, begin, start + LEAD, wanted, self._phase))
                self._idle.prefetch((self._phase + count) % self._period, self.live.timeout_s)
            elif self._under_way and now < self._pace.due(start):
                return  # room may come
            self._chunks.append(_Chunk(start, count, self._phase, idle, task))
            self._planned += count
            self._phase = (self._phase + count) % self._period
            self._short = False

    def _task(self, work: Any) -> asyncio.Task[list[Any]]:
        task = asyncio.create_task(work)
        self._under_way.add(task)

        def done(task: asyncio.Task[list[Any]]) -> None:
            self._under_way.discard(task)
            self._changed.set()
            if not task.cancelled():
                task.exception()  # looked at: nobody may be waiting any more

        task.add_done_callback(done)
        return task

    async def _ask(
        self, samples: Samples, begin: int, frame: int, count: int, phase: int
    ) -> list[Any]:
        asked = request_for(
            self._avatar, self._plan, samples, begin, timeline.LIVE, frame, count, phase - frame
        )
        begun = time.monotonic()
        answer = await self._transport.infer(asked, self.live.timeout_s)
        now = time.monotonic()
        self._pace.answered(now, now - begun)
        return list(frames_of(answer))

    def _refuse_if_over(self) -> None:
        if self._finished or self._closed:
            raise InputError("the session takes no more sound: it was finished or closed")


__all__ = ["LiveFrame", "LiveOptions", "LiveSession"]
