"""The generator of video that LiveKit's `AvatarRunner` drives."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from livekit import rtc
from livekit.agents.voice.avatar import AudioSegmentEnd, AvatarOptions, VideoGenerator

from lipsync_client import LiveOptions
from lipsync_client._output.h264 import is_idr
from lipsync_client.bot import BotFrame, BotSession
from lipsync_client.protocol import FPS

# x264's ultrafast makes the constrained baseline profile, which every WebRTC peer decodes.
_ENCODER: dict[str, str | int] = {"preset": "ultrafast", "crf": 23}


class LipSyncVideoGenerator(VideoGenerator):
    """An avatar that speaks the audio pushed to it.

    Iterating yields 25 video frames per second (I420) and, while the avatar speaks, after each of them the
    40 ms of audio that belong to it, then an `AudioSegmentEnd`. An interrupted segment has none.

    Args:
        url: the lip-sync server, or several with commas between them.
        avatar: name of the avatar.
        sample_rate: Hz of the audio that is yielded; what is pushed may have any rate.
        token, ca_file: for the server's gateway.
        encoded: yield the server's H.264 as `rtc.EncodedVideoFrame`, for `EncodedAvatarRunner`.
        live_options: latency and queue.

    Example:
        generator = LipSyncVideoGenerator("grpc://127.0.0.1:8001", "demo")
        options = await generator.start()
        runner = AvatarRunner(room, audio_recv=receiver, video_gen=generator, options=options)
    """

    def __init__(
        self,
        url: str,
        avatar: str,
        *,
        sample_rate: int = 24_000,
        token: str | None = None,
        ca_file: str | Path | None = None,
        encoded: bool = False,
        live_options: LiveOptions | None = None,
    ) -> None:
        self._rate = sample_rate
        self._size = (0, 0)
        self._session = BotSession(
            url, avatar, sample_rate,
            token=token, ca_file=ca_file, live_options=live_options,
            output="H264" if encoded else "I420",
            encoder_options=dict(_ENCODER) if encoded else None,
        )  # fmt: skip

    async def start(self) -> AvatarOptions:
        """Open the live session; return the runner's options.

        Raises:
            LipSyncError: the server or the avatar is not there.
        """
        avatar = await self._session.open()
        self._size = avatar.width, avatar.height
        return AvatarOptions(avatar.width, avatar.height, float(FPS), self._rate, 1)

    async def aclose(self) -> None:
        """End the session at once."""
        await self._session.aclose()

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        """Feed speech, or end the segment; wait while too much is queued.

        Raises:
            InputError: the session is not open.
        """
        if isinstance(frame, AudioSegmentEnd):
            await self._session.end_reply()
        else:
            await self._session.feed(bytes(frame.data), frame.sample_rate, frame.num_channels)

    def clear_buffer(self) -> None:
        """Drop the queued speech; the mouth closes."""
        self._session.interrupt()

    async def __aiter__(
        self,
    ) -> AsyncGenerator[Any, None]:  # LiveKit's type has no encoded frames
        """Yield the frames, each when it is due.

        Raises:
            ServerError: the server refused a request, or has not responded for `reconnect_timeout_s`.
        """
        frames = self._session.frames()
        async with aclosing(frames):
            async for frame in frames:
                interruptions = self._session.interruptions
                if frame.video is not None:
                    yield self._video(frame)
                if interruptions != self._session.interruptions:
                    continue  # while the runner took the video; its audio would count as the next reply's
                if len(frame.audio):
                    audio = frame.audio.tobytes()
                    yield rtc.AudioFrame(audio, self._rate, 1, len(frame.audio))
                if frame.ends_reply:
                    yield AudioSegmentEnd()

    def _video(self, frame: BotFrame) -> rtc.VideoFrame | rtc.EncodedVideoFrame:
        if not isinstance(frame.video, bytes):
            return rtc.VideoFrame(*self._size, rtc.VideoBufferType.I420, frame.video.tobytes())
        return rtc.EncodedVideoFrame(
            data=frame.video,
            width=self._size[0],
            height=self._size[1],
            codec=rtc.VideoCodec.H264,
            frame_type=rtc.EncodedFrameType.ENCODED_FRAME_KEY
            if is_idr(frame.video)
            else rtc.EncodedFrameType.ENCODED_FRAME_DELTA,
            timestamp_us=frame.index * 1_000_000 // FPS,
        )
