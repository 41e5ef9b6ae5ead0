"""The Pipecat service in a real pipeline, with a real server."""

from __future__ import annotations

import asyncio
import threading
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    MetricsFrame,
    OutputImageRawFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.metrics.metrics import ProcessingMetricsData, TTFBMetricsData
from pipecat.pipeline.worker import PipelineWorker

from lipsync_client import LiveOptions
from lipsync_embedded import Server
from pipecat_lipsync import LipSyncVideoService
from support.pipelines import Collector, run_pipeline
from support.replicas import wait_until
from support.servers import end_server
from support.triton_calls import Triton, speech

RATE = 16_000
PERIOD = 18  # frames of a time round the loop of the toy avatar
# However slow the machine, frames and audio wait for the server, and no frame is left out.
CALM = LiveOptions(margin_s=0.6, stall_s=1000.0, reconnect_timeout_s=60.0)


def service_of(server: Server, live_options: LiveOptions = CALM) -> LipSyncVideoService:
    return LipSyncVideoService(url=server.grpc_url, avatar="toy", live_options=live_options)


def pcm(seconds: float, seed: int = 1) -> NDArray[np.int16]:
    return np.asarray(np.rint(speech(seconds, seed) * 32767), np.int16)


async def say(worker: PipelineWorker, samples: NDArray[np.int16], parts: int = 7) -> None:
    """Queue a reply as a synthesiser does: at once, in frames of odd lengths."""
    await worker.queue_frame(TTSStartedFrame())
    for part in np.array_split(samples, parts):
        await worker.queue_frame(TTSAudioRawFrame(part.tobytes(), RATE, 1))
    stopped = TTSStoppedFrame()
    stopped.pts = 1  # as of a synthesiser with word times: it is held all the same
    await worker.queue_frame(stopped)


def heard(frames: list[TTSAudioRawFrame]) -> NDArray[np.int16]:
    return np.concatenate([np.frombuffer(f.audio, np.int16) for f in frames])


def pixels(frame: OutputImageRawFrame) -> NDArray[Any]:
    width, height = frame.size
    return np.frombuffer(frame.image, np.uint8).reshape(height, width, 3).astype(int)


def test_each_image_is_followed_by_its_audio_and_the_reply_is_played_whole(server: Server) -> None:
    wave = pcm(2.0)[: 2 * RATE - 123]  # no whole number of frames
    sink = Collector()

    async def act(worker: PipelineWorker) -> None:
        await sink.until(OutputImageRawFrame, 5)
        await say(worker, wave)
        await worker.queue_frame(LLMFullResponseEndFrame())
        await worker.queue_frame(EndFrame())

    errors = asyncio.run(run_pipeline([service_of(server), sink], act, RATE))
    assert not errors
    assert np.array_equal(heard(sink.all(TTSAudioRawFrame)), wave), "to the sample"
    media = [f for f in sink.frames if isinstance(f, OutputImageRawFrame | TTSAudioRawFrame)]
    spoken = [(i, f) for i, f in pairwise(media) if isinstance(f, TTSAudioRawFrame)]
    images = [image for image, _ in spoken if isinstance(image, OutputImageRawFrame)]
    assert len(images) == len(spoken), "each has its image"
    assert {len(f.audio) for _, f in spoken[:-1]} == {2 * RATE // 25}

    # The images are those of an offline render of the audio. A busy machine leaves out idle ones before it.
    silence = np.zeros(RATE, np.float32)
    whole = np.concatenate([silence[: 16 * 640], wave / np.float32(32768), silence])

    def rendered(offset: int, count: int) -> list[NDArray[Any]]:
        triton = Triton(server, "grpc")
        frames = triton.frames("toy", whole, "I420", first=16, count=count, loop_offset=offset - 16)
        return [cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420) for planes in frames]

    def away(offset: int) -> float:
        pairs = zip(images[:2], rendered(offset, 2), strict=True)  # two tell the loop's direction
        return float(max(np.abs(pixels(image) - rgb).mean() for image, rgb in pairs))

    for image, rgb in zip(images[:20], rendered(min(range(PERIOD), key=away), 20), strict=True):
        assert np.abs(pixels(image) - rgb).mean() < 2, "two converters differ in their rounding"

    kinds = [type(f) for f in sink.frames]
    last = max(n for n, f in enumerate(sink.frames) if isinstance(f, TTSAudioRawFrame))
    after = [k for k in kinds[last:] if k in (TTSStoppedFrame, LLMFullResponseEndFrame, EndFrame)]
    assert after == [TTSStoppedFrame, LLMFullResponseEndFrame, EndFrame], "after the last frame"
    assert kinds.count(TTSStoppedFrame) == 1
    data = [d for f in sink.all(MetricsFrame) for d in f.data if "LipSync" in d.processor]
    (first,) = [d for d in data if isinstance(d, TTFBMetricsData) and d.value]
    (processing,) = [d for d in data if isinstance(d, ProcessingMetricsData) and d.value]
    assert first.model == "toy"
    assert 0 < first.value < processing.value


def test_audio_of_another_rate_and_with_two_channels(server: Server) -> None:
    wave = pcm(1.0)
    sink = Collector()

    async def act(worker: PipelineWorker) -> None:
        for part in np.array_split(np.stack([wave, wave], 1), 5):
            await worker.queue_frame(TTSAudioRawFrame(part.tobytes(), RATE, 2))
        await worker.queue_frame(TTSStoppedFrame())
        await worker.queue_frame(EndFrame())

    assert not asyncio.run(run_pipeline([service_of(server), sink], act, 48_000))
    frames = sink.all(TTSAudioRawFrame)
    assert {(f.sample_rate, f.num_channels) for f in frames} == {(48_000, 1)}
    audio = heard(frames)
    assert abs(len(audio) - 3 * len(wave)) <= 3
    same = min(len(wave), len(audio) // 3)
    error = audio[: 3 * same : 3].astype(int) - wave[:same]
    assert np.abs(error).max() < 0.02 * 32768


def test_an_interruption_drops_the_speech_and_the_avatar_goes_on(server: Server) -> None:
    sink = Collector()
    wave = pcm(1.0, 2)

    async def act(worker: PipelineWorker) -> None:
        await say(worker, pcm(40.0))  # more than may be queued: the service waits while it feeds
        await sink.until(TTSAudioRawFrame, 10)
        await worker.queue_frame(InterruptionFrame())
        await sink.until(InterruptionFrame, 1)
        await sink.until(OutputImageRawFrame, len(sink.all(OutputImageRawFrame)) + 15)
        await say(worker, wave)
        await worker.queue_frame(EndFrame())

    assert not asyncio.run(run_pipeline([service_of(server), sink], act, RATE))
    at = next(n for n, f in enumerate(sink.frames) if isinstance(f, InterruptionFrame))
    after = sink.frames[at:]
    assert not any(isinstance(f, TTSStoppedFrame) for f in sink.frames[:at])
    again = next(n for n, f in enumerate(after) if isinstance(f, TTSStartedFrame))
    assert sum(isinstance(f, OutputImageRawFrame) for f in after[:again]) >= 15
    assert not any(isinstance(f, TTSAudioRawFrame) for f in after[:again]), "no more of it"
    assert np.array_equal(heard([f for f in after if isinstance(f, TTSAudioRawFrame)]), wave)
    assert len(sink.all(TTSStoppedFrame)) == 1


def test_a_cancelled_pipeline_leaves_nothing_behind(server: Server) -> None:
    process = psutil.Process()

    def connections() -> int:
        ports = {int(url.rpartition(":")[2]) for url in (server.grpc_url, server.http_url)}
        return sum(bool(c.raddr) and c.raddr.port in ports for c in process.net_connections())

    async def once() -> None:
        sink = Collector()

        async def act(worker: PipelineWorker) -> None:
            await say(worker, pcm(40.0))
            await sink.until(TTSAudioRawFrame, 5)
            await worker.queue_frame(CancelFrame())

        await run_pipeline([service_of(server), sink], act, RATE)
        assert not sink.all(TTSStoppedFrame)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(once())  # gRPC's own threads stay
    threads, before = threading.active_count(), connections()
    for _ in range(3):
        asyncio.run(once())
    assert threading.active_count() <= threads
    wait_until("the connections are closed", lambda: connections() <= before)


@pytest.mark.parametrize("avatar", ["nobody", "mel"])
def test_without_its_avatar_the_bot_speaks_all_the_same(server: Server, avatar: str) -> None:
    sink = Collector()
    service = LipSyncVideoService(url=server.grpc_url, avatar=avatar)
    wave = pcm(1.0)

    async def act(worker: PipelineWorker) -> None:
        await say(worker, wave)
        await worker.queue_frame(EndFrame())

    errors = asyncio.run(run_pipeline([service, sink], act, RATE))
    assert [avatar in error.error for error in errors] == [True]
    assert not service.is_usable
    assert np.array_equal(heard(sink.all(TTSAudioRawFrame)), wave)
    assert not sink.all(OutputImageRawFrame)


def test_a_lost_server_is_reported_and_the_bot_speaks_on(toy_server: Server) -> None:
    sink = Collector()
    service = service_of(toy_server, LiveOptions(reconnect_timeout_s=2.0))
    wave = pcm(1.0, 2)

    async def act(worker: PipelineWorker) -> None:
        await say(worker, pcm(20.0))
        await sink.until(TTSAudioRawFrame, 5)
        await asyncio.to_thread(end_server, toy_server)
        await sink.until(TTSStoppedFrame, 1)  # it is not held for ever
        await say(worker, wave)
        await worker.queue_frame(EndFrame())

    errors = asyncio.run(run_pipeline([service, sink], act, RATE))
    assert ["has lost the server" in error.error for error in errors] == [True]
    assert np.array_equal(heard(sink.all(TTSAudioRawFrame))[-len(wave) :], wave)
