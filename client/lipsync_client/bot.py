"""A live session as the frameworks of voice bots use one: PCM of any rate in, frames and replies out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soxr
from numpy.typing import NDArray

from ._avatar import Avatar
from ._client import AsyncLipSyncClient
from ._errors import InputError
from ._live.frame import LiveEvent, LiveFrame
from ._live.options import LiveOptions
from ._live.session import LiveSession
from ._render import RenderOptions

_FULL_SCALE = 32768  # of int16


@dataclass(frozen=True, slots=True, eq=False)
class BotFrame:
    """One 25th of a second of the avatar.

    Attributes:
        index: number of the frame in the session, from 0.
        video: as of `LiveFrame`; None where the previous frame is repeated.
        audio: int16 (n,), the part of the frame that belongs to a reply; empty between replies, and 40 ms
            within one, except for its last frame.
        position: samples, counted as `BotSession.fed` counts them, that are over when the frame ends.
        begins_reply, ends_reply: the audio is the first, or the last, of a reply. An interrupted reply does
            not end.
    """

    index: int
    video: Any
    audio: NDArray[np.int16]
    position: int
    begins_reply: bool
    ends_reply: bool


class BotSession:
    """The avatar of a voice bot.

    Its client belongs to the event loop in which `open` is called.

    Args:
        url: the lip-sync server, or several with commas between them.
        avatar: name of the avatar.
        rate: Hz of the audio of the frames; a multiple of 25.
        token, ca_file: for the server's gateway.
        output: of the frames, as of `RenderOptions`.
        encoder_options: of the output H264.
        live_options: latency and queue; `rate` and `channels` do not count.

    Attributes:
        fed: samples at `rate` that were fed so far.
        interruptions: number of calls of `interrupt`. Whoever hands a frame on in parts compares it before
            the audio.
    """

    def __init__(
        self,
        url: str,
        avatar: str,
        rate: int,
        *,
        token: str | None = None,
        ca_file: str | Path | None = None,
        output: Literal["I420", "H264"] = "I420",
        encoder_options: dict[str, str | int] | None = None,
        live_options: LiveOptions | None = None,
    ) -> None:
        self._client = AsyncLipSyncClient(url, token=token, ca_file=ca_file)
        self._name = avatar
        self._options = RenderOptions(output=output, encoder_options=encoder_options or {})
        self._live_options = replace(
            live_options or LiveOptions(),
            rate=rate, channels=1, output_rate=None, output_channels=None,
        )  # fmt: skip
        self._stack = AsyncExitStack()
        self._session: LiveSession | None = None
        self._resampler: tuple[int, soxr.ResampleStream] | None = None
        self._feeding: asyncio.Task[None] | None = None
        self._begins = self._plays = False
        self.fed = self.interruptions = 0

    async def open(self) -> Avatar:
        """Connect, and request the first idle frames; return the avatar.

        Raises:
            LipSyncError: the server or the avatar is not there.
        """
        try:
            await self._stack.enter_async_context(self._client)
            avatar = await self._client.avatar(self._name)
            self._session = await self._stack.enter_async_context(
                self._client.live(
                    self._name, self._options, self._live_options, on_event=self._on_event
                )
            )
        except BaseException:
            await self.aclose()
            raise
        return avatar

    async def aclose(self) -> None:
        """End the session at once, and close the connections."""
        self._cancel_feeding()
        await self._stack.aclose()

    async def feed(self, pcm: bytes | memoryview, rate: int, channels: int) -> None:
        """Add audio to the reply; wait while too much is queued, until an interruption.

        Args:
            pcm: int16 samples, interleaved.
            rate: of them, Hz. It may not change within a reply.
            channels: of them; they are averaged.

        Raises:
            InputError: the session is not open.
        """
        samples = np.frombuffer(pcm, np.int16)
        if channels > 1:
            mean = samples.reshape(-1, channels).mean(axis=1)
            samples = np.rint(mean).astype(np.int16)
        if rate != self._live_options.rate:
            if self._resampler is None or self._resampler[0] != rate:
                stream = soxr.ResampleStream(rate, self._live_options.rate, 1, dtype="int16")
                self._resampler = rate, stream
            samples = self._resampler[1].resample_chunk(samples)
        await self._feed(samples)

    async def end_reply(self) -> None:
        """Note that the reply is complete."""
        if self._resampler is not None:
            (_, stream), self._resampler = self._resampler, None
            await self._feed(stream.resample_chunk(np.zeros(0, np.int16), last=True))
        self._opened().flush()

    def finish(self) -> None:
        """End the frames after what was fed."""
        self._opened().finish()

    def interrupt(self) -> int:
        """Drop the replies that are fed or played: no more audio comes, and the mouth closes.

        Returns:
            How many samples of the reply, at the session's rate, were played.
        """
        self.interruptions += 1
        self._cancel_feeding()
        self._resampler = None
        self._begins = self._plays = False
        return self._opened().interrupt()

    @property
    def position(self) -> int:
        """Number of the fed samples that are over, or were dropped."""
        return self._opened().position

    async def frames(self) -> AsyncGenerator[BotFrame, None]:
        """Yield the frames, each when it is due.

        Raises:
            ServerError: the server refused a request, or has not responded for `reconnect_timeout_s`.
        """
        session = self._opened()
        before = 0
        async for frame in session:
            position = session.position
            yield self._frame(frame, before, position)
            before = position

    def _frame(self, frame: LiveFrame, before: int, position: int) -> BotFrame:
        begins, self._begins = self._begins, False
        plays, ends = self._plays, self._plays and frame.end_of_reply
        samples = frame.audio[:, 0] if plays else frame.audio[:0, 0]
        if ends:
            self._plays = False
            count = position - before
            if not samples[count:].any():  # silence after the reply's last sample
                samples = samples[:count]
        scaled = np.rint(samples * _FULL_SCALE).clip(-_FULL_SCALE, _FULL_SCALE - 1)
        return BotFrame(
            frame.index, frame.video, scaled.astype(np.int16), position, begins and plays, ends
        )

    def _on_event(self, event: LiveEvent) -> None:
        if event.kind == "playback_started":
            self._begins = self._plays = True

    async def _feed(self, samples: NDArray[np.int16]) -> None:
        """Feed blocks that the session takes whole or not at all, until an interruption."""
        size, session = self._live_options.rate, self._opened()
        for begin in range(0, len(samples), size):
            block = samples[begin : begin + size]
            task = self._feeding = asyncio.ensure_future(session.feed(block))
            try:
                await asyncio.wait({task})
            finally:
                if task.done() and not task.cancelled() and task.exception() is None:
                    self.fed += len(block)
                task.cancel()
            if task.cancelled():
                return
            task.result()

    def _cancel_feeding(self) -> None:
        if self._feeding is not None:
            self._feeding.cancel()

    def _opened(self) -> LiveSession:
        if self._session is None:
            raise InputError("the session is not open: await open() first")
        return self._session
