"""The avatar as a remote worker: LiveKit's sender and receiver of the data stream, in the mock room."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import AsyncMock, MagicMock, create_autospec

import numpy as np
from livekit import rtc
from livekit.agents.ipc.mock_room import create_mock_room
from livekit.agents.voice.avatar import (
    AvatarRunner,
    DataStreamAudioOutput,
    DataStreamAudioReceiver,
)
from livekit.agents.voice.io import PlaybackFinishedEvent, PlaybackStartedEvent
from numpy.typing import NDArray

from lipsync_client import LiveOptions
from lipsync_embedded import Server
from livekit_lipsync import LipSyncVideoGenerator
from support.triton_calls import speech

RATE = 16_000
OTHER = "mock_user"  # as which each side knows the other: the mock room has one more participant
CALM = LiveOptions(margin_s=0.6, stall_s=1000.0, reconnect_timeout_s=60.0)


class ByteStream:
    """A stream of bytes in the room: its writer and its reader."""

    def __init__(self, attributes: dict[str, str]) -> None:
        self.info = create_autospec(rtc.ByteStreamInfo, instance=True)
        self.info.attributes = attributes
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def write(self, data: bytes) -> None:
        self._parts.put_nowait(data)

    async def aclose(self) -> None:
        self._parts.put_nowait(None)

    async def __anext__(self) -> bytes:
        part = await self._parts.get()
        if part is None:
            raise StopAsyncIteration
        return part


class Room:
    """LiveKit's mock room, which passes remote calls and byte streams from one side to the other.

    Attributes:
        mock: the room of both sides.
        calls: methods that were called, in order.
    """

    def __init__(self) -> None:
        self.mock = create_mock_room()
        self.calls: list[str] = []
        participant = self.mock.local_participant
        participant._rpc_handlers = {}
        participant.register_rpc_method = participant._rpc_handlers.__setitem__
        participant.perform_rpc = self._call
        participant.stream_bytes = self._stream
        publication = create_autospec(rtc.LocalTrackPublication, instance=True)
        participant.publish_track = AsyncMock(return_value=publication)
        self._topics: dict[str, Any] = {}
        self.mock.register_byte_stream_handler = self._topics.__setitem__

    async def _call(self, *, destination_identity: str, method: str, payload: str) -> str:
        assert destination_identity == OTHER
        self.calls.append(method)
        data = MagicMock(caller_identity=OTHER, payload=payload)
        return str(self.mock.local_participant._rpc_handlers[method](data))

    async def _stream(self, *, topic: str, attributes: dict[str, str], **_: Any) -> ByteStream:
        stream = ByteStream(attributes)
        self._topics[topic](stream, OTHER)
        return stream


def pcm(seconds: float, seed: int = 1) -> NDArray[np.int16]:
    return np.asarray(np.rint(speech(seconds, seed) * 32767), np.int16)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.01)


async def say(output: DataStreamAudioOutput, wave: NDArray[np.int16]) -> None:
    for part in np.array_split(wave, 1 + len(wave) // 1600):
        await output.capture_frame(rtc.AudioFrame(part.tobytes(), RATE, 1, len(part)))
    output.flush()


def test_the_agent_hears_of_the_playback_and_clears_the_buffer(server: Server) -> None:
    wave, next_wave = pcm(1.0), pcm(1.2, 2)
    media: list[NDArray[np.int16]] = []
    started: list[PlaybackStartedEvent] = []
    finished: list[PlaybackFinishedEvent] = []

    def heard() -> NDArray[np.int16]:
        return np.concatenate([np.zeros(0, np.int16), *media])

    async def run() -> None:
        room = Room()
        generator = LipSyncVideoGenerator(
            server.grpc_url, "toy", sample_rate=RATE, live_options=CALM
        )
        options = await generator.start()
        receiver = DataStreamAudioReceiver(room.mock, sender_identity=OTHER)
        runner = AvatarRunner(room.mock, audio_recv=receiver, video_gen=generator, options=options)
        await runner.start()
        push = runner.av_sync.push

        async def record(frame: Any, timestamp: float | None = None) -> None:
            if isinstance(frame, rtc.AudioFrame):
                media.append(np.frombuffer(frame.data, np.int16))
            await push(frame, timestamp)

        runner.av_sync.push = record  # type: ignore[method-assign]
        output = DataStreamAudioOutput(
            room.mock, destination_identity=OTHER, wait_playback_start=True,
            clear_buffer_timeout=None,
        )  # fmt: skip
        output.on("playback_started", started.append)
        output.on("playback_finished", finished.append)
        try:
            await say(output, wave)
            await until(lambda: len(finished) == 1)
            assert np.array_equal(heard(), wave)
            assert not finished[0].interrupted
            assert abs(finished[0].playback_position - 1.0) < 0.001

            await say(output, pcm(20.0))
            await until(lambda: len(heard()) > len(wave) + RATE // 2)
            output.clear_buffer()
            await until(lambda: len(finished) == 2)
            played = len(heard()) - len(wave)
            assert finished[1].interrupted
            assert abs(finished[1].playback_position - played / RATE) < 0.041

            await say(output, next_wave)
            await until(lambda: len(finished) == 3)
            assert np.array_equal(heard()[len(wave) + played :], next_wave), "none of the old"
            assert not finished[2].interrupted
            assert len(started) == 3
        finally:
            await runner.aclose()
            await generator.aclose()
        before_clear = ["lk.playback_started", "lk.playback_finished"]
        cleared = ["lk.playback_started", "lk.clear_buffer", "lk.playback_finished"]
        assert room.calls == [*before_clear, *cleared, *before_clear]

    asyncio.run(run())
