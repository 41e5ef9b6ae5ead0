"""The LiveKit plugin with LiveKit's own runner and its mock room; no LiveKit server takes part."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any
from unittest.mock import AsyncMock, create_autospec

import av
import numpy as np
import pytest
from livekit import rtc
from livekit.agents import AgentSession
from livekit.agents.ipc.mock_room import create_mock_room
from livekit.agents.voice.avatar import (
    AudioReceiver,
    AvatarRunner,
    DataStreamAudioReceiver,
    QueueAudioOutput,
)
from livekit.agents.voice.io import PlaybackFinishedEvent
from numpy.typing import NDArray

from lipsync_client import LiveOptions, UnknownAvatar
from lipsync_embedded import Server
from livekit_lipsync import EncodedAvatarRunner, LipSyncAvatarSession, LipSyncVideoGenerator
from support.triton_calls import speech

RATE = 16_000
CALM = LiveOptions(margin_s=0.6, stall_s=1000.0, reconnect_timeout_s=60.0)
Media = list[Any]  # video frames, raw or encoded, and audio frames


def pcm(seconds: float, seed: int = 1) -> NDArray[np.int16]:
    return np.asarray(np.rint(speech(seconds, seed) * 32767), np.int16)


def room_with_tracks() -> Any:
    """Return LiveKit's mock room, to which tracks can be published."""
    room = create_mock_room()
    publication = create_autospec(rtc.LocalTrackPublication, instance=True)
    room.local_participant.publish_track = AsyncMock(return_value=publication)
    return room


def heard(media: Media) -> NDArray[np.int16]:
    blocks = [np.frombuffer(f.data, np.int16) for f in media if isinstance(f, rtc.AudioFrame)]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.int16)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.01)


async def say(output: QueueAudioOutput, wave: NDArray[np.int16]) -> None:
    for part in np.array_split(wave, 7):
        await output.capture_frame(rtc.AudioFrame(part.tobytes(), RATE, 1, len(part)))
    output.flush()


def run_avatar(
    server: Server,
    receiver: Callable[[Any], AudioReceiver],
    act: Callable[[Any, Any, Media], Coroutine[Any, Any, None]],
    runner_class: type[AvatarRunner] = AvatarRunner,
) -> Media:
    """Return what LiveKit's runner gave to the room while `act(room, receiver, media)` ran."""
    media: Media = []

    async def run() -> None:
        room = room_with_tracks()
        generator = LipSyncVideoGenerator(
            server.grpc_url,
            "toy",
            sample_rate=RATE,
            encoded=runner_class is EncodedAvatarRunner,
            live_options=CALM,
        )
        options = await generator.start()
        assert (options.video_width, options.video_height, options.video_fps) == (320, 240, 25.0)
        audio = receiver(room)
        runner = runner_class(room, audio_recv=audio, video_gen=generator, options=options)
        await runner.start()
        push = runner.av_sync.push

        async def record(frame: Any, timestamp: float | None = None) -> None:
            media.append(frame)
            await push(frame, timestamp)

        runner.av_sync.push = record  # type: ignore[method-assign]
        try:
            await act(room, audio, media)
        finally:
            await runner.aclose()
            await generator.aclose()
        assert room.local_participant.publish_track.await_count == 2

    asyncio.run(run())
    return media


def test_a_segment_is_played_whole_and_each_image_has_its_audio(server: Server) -> None:
    wave = pcm(1.5)[: RATE + 123]
    finished: list[PlaybackFinishedEvent] = []

    async def act(_: Any, output: QueueAudioOutput, media: Media) -> None:
        output.on("playback_finished", finished.append)
        await until(lambda: len(media) > 5)
        await say(output, wave)
        await until(lambda: len(finished) == 1)
        count = len(media)
        await until(lambda: len(media) > count + 5)

    media = run_avatar(server, lambda _: QueueAudioOutput(sample_rate=RATE), act)
    assert np.array_equal(heard(media), wave), "to the sample"
    spoken = [n for n, frame in enumerate(media) if isinstance(frame, rtc.AudioFrame)]
    assert all(isinstance(media[n - 1], rtc.VideoFrame) for n in spoken)
    assert spoken == list(range(spoken[0], spoken[-1] + 1, 2)), "one of each, in turn"
    assert finished[0].playback_position == pytest.approx(len(wave) / RATE)
    assert not finished[0].interrupted


def test_a_cleared_buffer_ends_the_audio_and_the_next_segment_is_whole(server: Server) -> None:
    wave = pcm(1.0, 2)
    finished: list[PlaybackFinishedEvent] = []
    lengths: list[int] = []

    async def act(_: Any, output: QueueAudioOutput, media: Media) -> None:
        output.on("playback_finished", finished.append)
        await say(output, pcm(40.0))  # more than may be queued
        await until(lambda: len(heard(media)) > RATE // 2)
        output.clear_buffer()
        await until(lambda: len(finished) == 1)
        count = len(media)
        lengths.append(len(heard(media)))
        await until(lambda: len(media) > count + 15)
        lengths.append(len(heard(media)))
        await say(output, wave)
        await until(lambda: len(finished) == 2)

    media = run_avatar(server, lambda _: QueueAudioOutput(sample_rate=RATE), act)
    assert finished[0].interrupted
    assert not finished[1].interrupted
    assert lengths[0] == lengths[1], "no more of it"
    assert finished[0].playback_position == pytest.approx(lengths[0] / RATE, abs=0.041)
    assert np.array_equal(heard(media)[lengths[1] :], wave)


def test_a_buffer_cleared_while_the_video_is_taken_takes_the_audio_of_that_frame(
    server: Server,
) -> None:
    """Otherwise 40 ms of the old reply would come after it had ended, as the beginning of the next."""

    async def run() -> None:
        generator = LipSyncVideoGenerator(server.grpc_url, "toy", sample_rate=RATE)
        await generator.start()
        wave = pcm(1.0)
        frame = rtc.AudioFrame(wave.tobytes(), RATE, 1, len(wave))
        try:
            await generator.push_audio(frame)
            played = 0
            after: list[bool] | None = None
            async for item in generator:
                spoken = isinstance(item, rtc.AudioFrame)
                if after is not None:
                    after.append(spoken)
                    if len(after) == 10:
                        break
                elif not spoken and played == 2:
                    generator.clear_buffer()
                    after = []
                played += spoken
            assert after == [False] * 10
        finally:
            await generator.aclose()

    asyncio.run(asyncio.wait_for(run(), 120))


def test_the_servers_access_units_are_published_as_they_are(server: Server) -> None:
    wave = pcm(1.0)
    published: list[rtc.TrackPublishOptions] = []

    async def act(room: Any, output: QueueAudioOutput, media: Media) -> None:
        await say(output, wave)
        await until(lambda: len(heard(media)) == len(wave))
        published.extend(call.args[1] for call in room.local_participant.publish_track.mock_calls)

    media = run_avatar(
        server, lambda _: QueueAudioOutput(sample_rate=RATE), act, EncodedAvatarRunner
    )
    options = published[1]
    assert options.video_codec == rtc.VideoCodec.H264
    assert options.video_encoder == rtc.VideoEncoderBackend.ENCODER_BACKEND_PRE_ENCODED
    assert not options.simulcast
    assert np.array_equal(heard(media), wave)
    units = [frame for frame in media if isinstance(frame, rtc.EncodedVideoFrame)]
    assert units[0].frame_type == rtc.EncodedFrameType.ENCODED_FRAME_KEY
    steps = np.diff([unit.timestamp_us for unit in units])
    assert (steps > 0).all()
    assert not (steps % 40_000).any(), "a late frame leaves a gap"
    decoder = av.CodecContext.create("h264", "r")
    pictures = [p for unit in units for p in decoder.decode(av.Packet(unit.data))]
    pictures += decoder.decode(None)
    assert len(pictures) == len(units)


class ByteStream:
    """A stream of bytes as LiveKit's room hands it over."""

    def __init__(self, wave: NDArray[np.int16]) -> None:
        self.info = create_autospec(rtc.ByteStreamInfo, instance=True)
        self.info.attributes = {"sample_rate": str(RATE), "num_channels": "1"}
        self._parts = iter(part.tobytes() for part in np.array_split(wave, 5))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for part in self._parts:
            return part
        raise StopAsyncIteration


def test_a_remote_worker_takes_audio_from_the_data_stream(server: Server) -> None:
    wave = pcm(1.0)
    calls: list[tuple[str, str]] = []

    async def act(room: Any, _: DataStreamAudioReceiver, __: Media) -> None:
        room.local_participant.perform_rpc = AsyncMock(
            side_effect=lambda **call: calls.append((call["method"], call["payload"]))
        )
        topic, take = room.register_byte_stream_handler.call_args.args
        assert topic == "lk.audio_stream"
        take(ByteStream(wave), "mock_user")
        await until(lambda: len(calls) == 2)

    def receiver(room: Any) -> DataStreamAudioReceiver:
        room.local_participant._rpc_handlers = {}
        return DataStreamAudioReceiver(room, sender_identity="mock_user")

    media = run_avatar(server, receiver, act)
    assert np.array_equal(heard(media), wave)
    assert [method for method, _ in calls] == ["lk.playback_started", "lk.playback_finished"]
    position = json.loads(calls[1][1])
    assert position["playback_position"] == pytest.approx(1.0)
    assert not position["interrupted"]


def test_an_avatar_session_becomes_the_output_of_the_agent(server: Server) -> None:
    async def run() -> None:
        room = room_with_tracks()
        agent: AgentSession[None] = AgentSession()
        generator = LipSyncVideoGenerator(server.grpc_url, "toy", live_options=CALM)
        avatar = LipSyncAvatarSession(generator)
        await avatar.start(agent, room)
        assert avatar.avatar_identity == "agent"
        assert isinstance(agent.output.audio, QueueAudioOutput)
        await until(lambda: room.local_participant.publish_track.await_count == 2)
        await avatar.aclose()
        with pytest.raises(UnknownAvatar):
            await LipSyncVideoGenerator(server.grpc_url, "nobody").start()

    asyncio.run(run())
