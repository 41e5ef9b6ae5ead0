"""The processor between a bot's speech synthesiser and its transport."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from av import VideoFrame
from av.video.reformatter import VideoReformatter
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputImageRawFrame,
    StartFrame,
    SystemFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessorSetup
from pipecat.services.ai_service import AIService
from pipecat.services.settings import ServiceSettings

from lipsync_client import LipSyncError, LiveOptions
from lipsync_client.bot import BotFrame, BotSession


class LipSyncVideoService(AIService):
    """An avatar that speaks the bot's audio.

    Place it between the speech synthesiser and `transport.output()`. It takes `TTSAudioRawFrame`s and gives
    25 `OutputImageRawFrame`s per second (RGB) and, while the avatar speaks, after each of them the 40 ms of
    audio that belong to it. Other frames that follow the speech, such as `TTSStoppedFrame`, are held until
    what came before them has been played. An `InterruptionFrame` drops the queued speech.

    The transport shows each image with its audio (`sync_with_audio`), so it needs `video_out_enabled`, the
    avatar's width and height, and not `video_out_is_live`. If the server is lost, an error is pushed, and the
    speech goes on without the avatar.

    Metrics: the time to first byte is the time from the first audio of a reply to its first frame out; the
    processing time ends with the reply's last one.

    Args:
        url: the lip-sync server, or several with commas between them.
        avatar: name of the avatar.
        token, ca_file: for the server's gateway.
        live_options: latency and queue; the rate follows the pipeline.
        settings, kwargs: of Pipecat's `AIService`.

    Example:
        pipeline = Pipeline([transport.input(), stt, llm, tts, avatar, transport.output()])
    """

    def __init__(
        self,
        *,
        url: str,
        avatar: str,
        token: str | None = None,
        ca_file: str | Path | None = None,
        live_options: LiveOptions | None = None,
        settings: ServiceSettings | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(settings=settings or ServiceSettings(model=avatar), **kwargs)
        self._url, self._avatar = url, avatar
        self._token, self._ca_file, self._live_options = token, ca_file, live_options
        self._rate = 0
        self._session: BotSession | None = None
        self._task: asyncio.Task[None] | None = None
        self._held: deque[tuple[int, Frame]] = (
            deque()
        )  # with the position after which each is pushed
        self._in_reply = False
        self._to_rgb = VideoReformatter()

    def can_generate_metrics(self) -> bool:
        """Return True: TTFB and processing time of each reply are reported."""
        return True

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]
        """Open the live session at the rate of the pipeline's output."""
        await super().setup(setup)
        self._rate = setup.audio_out_sample_rate
        session = BotSession(
            self._url, self._avatar, self._rate,
            token=self._token, ca_file=self._ca_file, live_options=self._live_options,
        )  # fmt: skip
        try:
            await session.open()
        except LipSyncError as e:
            await self.push_error(
                f"{self.name} cannot start: {e}", e, force_treat_as_permanent=True
            )
            return
        self._session = session

    async def start(self, frame: StartFrame) -> None:
        """Show the avatar from now on."""
        await super().start(frame)
        if self._session is not None:
            self._task = self.create_task(self._show(self._session), "frames")

    async def stop(self, frame: EndFrame) -> None:
        """Let the speech end, then close the session."""
        await super().stop(frame)
        if self._session is not None and self._task is not None:
            self._session.finish()
            await self._task
        await self._close()

    async def cancel(self, frame: CancelFrame) -> None:
        """Close the session at once."""
        await super().cancel(frame)
        await self._close()

    async def cleanup(self) -> None:
        """Close the session if neither `stop` nor `cancel` did."""
        await super().cleanup()
        await self._close()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Feed speech to the avatar, hold what follows it, and pass everything else on."""
        await super().process_frame(frame, direction)
        session = self._session
        if isinstance(frame, InterruptionFrame):
            await self._interrupt()
        elif session is not None and direction is FrameDirection.DOWNSTREAM:
            if isinstance(frame, TTSAudioRawFrame):
                await self._feed(session, frame)
                return
            if isinstance(frame, TTSStoppedFrame):
                self._in_reply = False
                await session.end_reply()
            # As at the transport: a frame with a time of its own does not wait for the speech before it.
            waits = isinstance(frame, TTSStoppedFrame) or not (
                isinstance(frame, SystemFrame) or frame.pts
            )
            if waits and (self._held or session.position < session.fed):
                self._held.append((session.fed, frame))
                return
        await self.push_frame(frame, direction)

    async def _feed(self, session: BotSession, frame: TTSAudioRawFrame) -> None:
        """Feed speech; wait while too much is queued."""
        if not self._in_reply:
            self._in_reply = True
            await self.start_ttfb_metrics()
            await self.start_processing_metrics()
        try:
            await session.feed(frame.audio, frame.sample_rate, frame.num_channels)
        except LipSyncError as e:
            await self.push_error(f"{self.name} cannot take the speech: {e}", e)

    async def _interrupt(self) -> None:
        """Drop the speech, and what follows it unless it must not be lost."""
        self._in_reply = False
        if self._session is not None:
            self._session.interrupt()
        held, self._held = self._held, deque()
        for _, frame in held:
            if not frame.interruptible:
                await self.push_frame(frame)

    async def _show(self, session: BotSession) -> None:
        """Push what the session gives, each frame when it is due."""
        frames: AsyncGenerator[BotFrame, None] = session.frames()
        try:
            async with aclosing(frames):
                async for frame in frames:
                    await self._push(session, frame)
        except LipSyncError as e:
            self._session = None
            await session.aclose()
            message = f"{self.name} has lost the server: {e}"
            await self.push_error(message, e, force_treat_as_permanent=True)
        finally:
            while self._held:
                await self.push_frame(self._held.popleft()[1])

    async def _push(self, session: BotSession, frame: BotFrame) -> None:
        interruptions = session.interruptions
        if frame.begins_reply:
            await self.stop_ttfb_metrics()
        if frame.video is not None:
            await self.push_frame(self._image(frame))
        if len(frame.audio) and interruptions == session.interruptions:
            await self.push_frame(TTSAudioRawFrame(frame.audio.tobytes(), self._rate, 1))
        if frame.ends_reply:
            await self.stop_processing_metrics()
        while self._held and self._held[0][0] <= frame.position:
            await self.push_frame(self._held.popleft()[1])

    def _image(self, frame: BotFrame) -> OutputImageRawFrame:
        picture = VideoFrame.from_ndarray(frame.video, "yuv420p")
        rgb = self._to_rgb.reformat(picture, format="rgb24").to_ndarray()
        height, width = rgb.shape[:2]
        image = OutputImageRawFrame(rgb.tobytes(), (width, height), "RGB")
        image.sync_with_audio = True
        return image

    async def _close(self) -> None:
        (task, self._task), (session, self._session) = (self._task, None), (self._session, None)
        if task is not None and not task.done():
            await self.cancel_task(task)
        if session is not None:
            await session.aclose()
