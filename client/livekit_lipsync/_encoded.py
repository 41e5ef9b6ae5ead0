"""A runner that publishes the server's H.264 as it is."""

from __future__ import annotations

from livekit import rtc
from livekit.agents.voice.avatar import AvatarRunner


class EncodedAvatarRunner(AvatarRunner):
    """LiveKit's runner for a generator with `encoded=True`: nothing is decoded or encoded again.

    Every chunk of the server begins with a keyframe, which makes up for requests for keyframes: they are not
    passed on, and neither are bitrates. Simulcast is off.
    """

    async def start(self) -> None:
        """Start the worker."""
        await self._av_sync.aclose()
        await self._video_source.aclose()
        options = self._options
        source = rtc.EncodedVideoSource(options.video_width, options.video_height)
        self._video_source = source  # type: ignore[assignment]
        self._av_sync = rtc.AVSynchronizer(
            audio_source=self._audio_source,
            video_source=source,  # type: ignore[arg-type]
            video_fps=options.video_fps,
            video_queue_size_ms=self._queue_size_ms,
        )
        await super().start()

    async def _publish_track(self) -> None:
        async with self._lock:
            await self._room_connected_fut
            participant = self._room.local_participant
            audio = rtc.LocalAudioTrack.create_audio_track("avatar_audio", self._audio_source)
            self._audio_publication = await participant.publish_track(
                audio, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
            )
            await self._audio_publication.wait_for_subscription()
            video = rtc.LocalVideoTrack.create_video_track("avatar_video", self._video_source)
            options = rtc.TrackPublishOptions(
                source=rtc.TrackSource.SOURCE_CAMERA,
                video_codec=rtc.VideoCodec.H264,
                video_encoder=rtc.VideoEncoderBackend.ENCODER_BACKEND_PRE_ENCODED,
                simulcast=False,
            )
            self._video_publication = await participant.publish_track(video, options)
