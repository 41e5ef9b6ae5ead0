"""The way of the audio into a live session: as fast as the caller likes, until enough of it waits."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterable, Callable
from typing import Any

from numpy.typing import NDArray

from .._errors import InputError
from ..protocol import FPS
from .audio import LiveAudio
from .frame import Samples
from .options import LiveOptions
from .replies import Replies
from .samples import checked
from .schedule import Schedule


class Feeder:
    """The feeding side of a session.

    Args:
        options: of the session.
        audio: that is fed.
        schedule: that decides on the pauses of the speech.
        replies: that the audio belongs to.
        changed: called after audio was fed.

    Attributes:
        over: no more audio is taken.
    """

    def __init__(
        self,
        options: LiveOptions,
        audio: LiveAudio,
        schedule: Schedule,
        replies: Replies,
        changed: Callable[[], None],
    ) -> None:
        self._options, self._audio, self._schedule = options, audio, schedule
        self._replies, self._changed = replies, changed
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.over = False

    async def feed(self, samples: NDArray[Any]) -> None:
        """Feed samples, and wait while too many are queued.

        Raises:
            InputError: other samples than the options say, or no more are taken.
        """
        block, size = checked(samples, self._options.channels), self._options.rate
        for begin in range(0, len(block), size):
            while self._queued_s() > self._options.queue_s:
                self._changed()
                self._room.clear()
                self.check_open()
                await self._room.wait()
            self.check_open()
            self._take(block[begin : begin + size], pauses=not begin)
        self._changed()

    def feed_from(
        self,
        source: AsyncIterable[NDArray[Any]],
        ended: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Feed all that a source yields, in the background.

        Args:
            source: yields samples.
            ended: called after the last ones.
            failed: called with the source's error.
        """
        self.check_open()

        async def work() -> None:
            try:
                async for samples in source:
                    await self.feed(samples)
            except Exception as error:
                failed(error)
            else:
                ended()

        task = asyncio.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def check_open(self) -> None:
        """Check that audio is taken.

        Raises:
            InputError: the session was finished or closed.
        """
        if self.over:
            raise InputError("the session takes no more audio: it was finished or closed")

    def make_room(self) -> None:
        """Let those who wait look again whether there is room for their audio."""
        self._room.set()

    async def close(self) -> None:
        """End all feeding."""
        self.over = True
        self.make_room()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _take(self, block: Samples, *, pauses: bool) -> None:
        """Feed a block, and lengthen or shorten a pause of the speech before it if need be."""
        now, rate = self._loop.time(), self._options.rate
        seconds = len(block) / rate
        self._replies.fed(now, self._audio.fed)
        pause_s = self._schedule.pause_by(now) if pauses else 0.0
        if pause_s and self._audio.is_quiet(block):
            if pause_s > 0:
                frames = math.ceil(pause_s * FPS)
                self._audio.pause(frames)
                self._schedule.paused_for(frames)
            else:
                skipped = min(len(block), int(-pause_s * rate))
                self._audio.skip(block[:skipped])
                block = block[skipped:]
        self._schedule.fed(now, seconds)
        self._audio.feed(block, now)

    def _queued_s(self) -> float:
        """Audio that waits to be played, in seconds."""
        queued = self._audio.end + self._audio.waiting
        return queued / self._options.rate - self._schedule.at / FPS
