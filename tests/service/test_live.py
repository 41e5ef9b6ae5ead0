"""Live sessions with a real server: each frame belongs to the audio beside it, whatever happens."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from lipsync_client import (
    AsyncLipSyncClient,
    InputError,
    LipSyncClient,
    LiveEvent,
    LiveFrame,
    LiveOptions,
    LiveSession,
    RenderOptions,
    ServerError,
    UnknownAvatar,
)
from lipsync_embedded import Server
from support.servers import end_server
from support.triton_calls import Triton, frames_made, speech

LEAD = 16  # frames of silence before the session's own beginning
RAW = RenderOptions(output="FRAMES")
PERIOD = 18  # frames of a time round the loop of the toy avatar, which has ten
# However slow the machine, frames and audio wait for the server, and no frame is left out.
CALM = LiveOptions(margin_s=0.6, stall_s=1000.0, reconnect_timeout_s=60.0)

Act = Callable[[LiveSession, list[LiveFrame]], Coroutine[Any, Any, None]]


async def blocks(wave: NDArray[Any], rate: int = 16000) -> AsyncIterator[NDArray[Any]]:
    """Yield audio at the pace of speech, 20 ms at a time."""
    size, begun = rate // 50, time.monotonic()
    for n, at in enumerate(range(0, len(wave), size)):
        await asyncio.sleep(max(0.0, begun + n / 50 - time.monotonic()))
        yield wave[at : at + size]


def session_of(
    server: Server,
    act: Act,
    live_options: LiveOptions = CALM,
    options: RenderOptions = RAW,
    on_event: Callable[[LiveEvent], object] | None = None,
) -> tuple[list[LiveFrame], LiveSession]:
    """Return all frames of a session that `act` feeds."""

    async def run() -> tuple[list[LiveFrame], LiveSession]:
        frames: list[LiveFrame] = []
        async with (
            AsyncLipSyncClient(server.grpc_url) as client,
            client.live("toy", options, live_options, on_event=on_event) as session,
        ):
            acting = asyncio.create_task(act(session, frames))
            await collect(session, frames)
            await acting
        return frames, session

    return asyncio.run(run())


async def collect(session: LiveSession, frames: list[LiveFrame]) -> None:
    """Add the frames of a session to a list."""
    async for frame in session:
        frames.append(frame)


async def until(frames: list[LiveFrame], count: int) -> None:
    """Wait until so many frames have come."""
    while len(frames) < count:
        await asyncio.sleep(0.005)


def reference(server: Server, wave: NDArray[Any], loop_index: int = 0) -> NDArray[Any]:
    """Return the frames of the same clip rendered offline, with silence before and after it."""
    whole = np.concatenate([np.zeros(LEAD * 640), wave, np.zeros(16000)]).astype(np.float32)
    count, triton = len(wave) // 640, Triton(server, "grpc")
    parts = [
        triton.frames(
            "toy", whole, first=LEAD + at, count=min(32, count - at), loop_offset=loop_index - LEAD
        )
        for at in range(0, count, 32)
    ]
    return np.concatenate(parts)


def heard(frames: list[LiveFrame]) -> NDArray[np.float32]:
    """Return the audio of frames, mono."""
    return np.concatenate([f.audio[:, 0] for f in frames])


def assert_exact(server: Server, frames: list[LiveFrame], until: int | None = None) -> None:
    """Check that each frame is what an offline render of the session's audio has at its place.

    Idle frames are those of silence: they were given before anybody knew of the audio that followed.

    Args:
        until: number of a frame; those after it were given when other audio was expected.
    """
    speaking = reference(server, heard(frames))
    idle = reference(server, np.zeros(640 * PERIOD))
    assert [f.index for f in frames] == list(range(len(frames)))
    for frame in frames[:until]:
        assert frame.loop_index == frame.index % PERIOD
        if frame.video is not None:
            expected = idle[frame.loop_index] if frame.idle else speaking[frame.index]
            assert np.array_equal(frame.video, expected), frame.index


def test_frames_belong_to_the_audio_at_the_pace_of_speech(server: Server) -> None:
    wave = speech(3.0)

    async def act(session: LiveSession, frames: list[LiveFrame]) -> None:
        await until(frames, 20)
        session.feed_from(blocks(wave))

    frames, session = session_of(server, act)
    audio = heard(frames)
    at = int(np.argmax(audio != 0)) - int(np.argmax(wave != 0))
    if not session.report.waits:  # a busy machine may read the audio late
        assert np.array_equal(audio[at : at + len(wave)], wave), "not a sample is lost or put in"
    assert_exact(server, frames)
    assert not session.report.repeated
    assert frames[0].idle
    assert not frames[-3].idle
    latency = session.report.latency_s(5)
    assert latency is not None
    assert latency > 0.4525, "that much the models ask for"
    assert session.latency_s > 0.4525 + CALM.margin_s


def test_a_burst_is_played_whole_and_its_reply_ends(server: Server) -> None:
    """A synthesiser feeds faster than the audio is spoken, at another rate, before frames are taken."""
    wave = np.stack([speech(3.0, 1), speech(3.0, 2)], 1)[:48000]
    options = RenderOptions(output="FRAMES", loop_offset=7)
    events: list[LiveEvent] = []

    async def run() -> list[LiveFrame]:
        async with (
            AsyncLipSyncClient(server.grpc_url) as client,
            client.live(
                "toy", options, replace(CALM, rate=24000, channels=2), on_event=events.append
            ) as session,
        ):
            for part in np.array_split((wave * 32767).astype(np.int16), 7):  # of odd lengths
                await session.feed(part)
            session.finish()
            return [frame async for frame in session]

    frames = asyncio.run(run())
    assert len(frames) == 50
    audio = np.concatenate([f.audio for f in frames])
    assert audio.shape == (48000, 2)
    assert np.abs(audio - wave).max() < 1e-4
    assert all(f.video is not None for f in frames)
    assert [f.loop_index for f in frames] == [(7 + i) % PERIOD for i in range(50)]
    assert [f.index for f in frames if f.end_of_reply] == [49]
    kinds = ["first_audio", "first_frame", "playback_started", "playback_finished"]
    assert [event.kind for event in events] == kinds
    assert events[-1].position == 48000


def test_idle_frames_are_requested_once_by_all_sessions_of_a_client(server: Server) -> None:
    made: list[int] = []

    async def idle(client: AsyncLipSyncClient) -> list[LiveFrame]:
        frames: list[LiveFrame] = []
        async with client.live("toy", RAW, CALM) as session:
            async for frame in session:
                frames.append(frame)
                if len(frames) == 2 * PERIOD:
                    made.append(frames_made(server, "toy_generator"))
                if len(frames) == 4 * PERIOD:
                    return frames
        raise AssertionError("the frames ended")

    async def run() -> list[list[LiveFrame]]:
        async with AsyncLipSyncClient(server.grpc_url) as client:
            before = frames_made(server, "toy_generator")
            sessions = await asyncio.gather(*(idle(client) for _ in range(4)))
            made.append(frames_made(server, "toy_generator") - before)
            return sessions

    sessions = asyncio.run(run())
    for frames in sessions:
        assert all(f.idle for f in frames)
    assert_exact(server, sessions[0])
    assert made[-1] <= PERIOD, "each image of the loop, at most once in each direction"


def test_an_interruption_closes_the_mouth_and_returns_what_was_heard(server: Server) -> None:
    results: list[tuple[int, int]] = []

    async def act(session: LiveSession, frames: list[LiveFrame]) -> None:
        for number in (1, 2):
            await session.feed(speech(20.0, number))
            while not (len(frames) and frames[-1].audio.any()):
                await asyncio.sleep(0.005)
            await until(frames, len(frames) + 30)
            results.append((len(frames), session.interrupt()))
            await until(frames, len(frames) + 25)
        session.finish()

    frames, session = session_of(server, act)
    assert session.report.interruptions == 2
    speaking, idle = reference(server, heard(frames)), reference(server, np.zeros(640 * PERIOD))
    begin = 0
    for at, position in results:
        silent = next(n for n in range(at, len(frames)) if not frames[n].audio.any())
        assert silent - at <= 2, "within 100 ms of what was played"
        assert frames[silent - 1].end_of_reply
        spoken = [f.index for f in frames[begin:silent] if f.audio.any()]
        assert position == 640 * (silent - spoken[0]), "to the sample"
        closing = frames[silent : at + 20]
        assert any(not f.idle for f in closing), "the mouth closes in several frames"
        assert closing[-1].idle
        for frame in closing:
            expected = idle[frame.loop_index] if frame.idle else speaking[frame.index]
            assert np.array_equal(frame.video, expected), frame.index
        begin = silent
    assert [f.loop_index for f in frames] == [f.index % PERIOD for f in frames]


def test_a_server_that_stands_still_costs_frames_and_a_second_of_time(
    second_server: Server,
) -> None:
    """The server is stopped for two seconds: the audio goes on, and what is shown later belongs to it."""
    # Only tritonserver itself: a Python model that is stopped while it holds a lock would end it.
    family = [psutil.Process(second_server.pid), *psutil.Process(second_server.pid).children()]
    stopped = [process for process in family if process.name() == "tritonserver"]
    assert stopped

    async def act(session: LiveSession, frames: list[LiveFrame]) -> None:
        await session.feed(speech(12.0))
        await until(frames, 30)
        for member in stopped:
            member.suspend()
        await asyncio.sleep(2.0)
        for member in stopped:
            member.resume()
        session.finish()

    frames, session = session_of(second_server, act, replace(CALM, stall_s=0.5))
    assert session.report.repeated >= 10
    assert session.report.stalled_s > 0
    assert len(frames) >= 12 * 25
    dark = next(n for n, f in enumerate(frames) if f.video is None and n >= 30)
    assert any(f.video is not None for f in frames[dark:]), "it recovers"
    assert_exact(second_server, frames)


def test_a_slow_reader_gets_all_the_audio(server: Server) -> None:
    wave = speech(4.0)

    async def run() -> list[LiveFrame]:
        frames = []
        async with (
            AsyncLipSyncClient(server.grpc_url) as client,
            client.live("toy", RAW, CALM) as session,
        ):
            await session.feed(wave)
            session.finish()
            async for frame in session:
                frames.append(frame)
                if len(frames) == 40:
                    await asyncio.sleep(1.5)
        return frames

    frames = asyncio.run(run())
    assert np.array_equal(heard(frames), wave)
    assert_exact(server, frames)


def test_rgb_i420_and_another_rate_of_the_audio(server: Server) -> None:
    wave = speech(1.0)

    async def frames_of(options: RenderOptions, live_options: LiveOptions) -> list[LiveFrame]:
        async with (
            AsyncLipSyncClient(server.grpc_url) as client,
            client.live("toy", options, live_options) as session,
        ):
            await session.feed(wave)
            session.finish()
            return [frame async for frame in session]

    async def run() -> list[list[LiveFrame]]:
        converted = replace(CALM, rgb=True, output_rate=48000, output_channels=2)
        return [
            await frames_of(RAW, CALM),
            await frames_of(RAW, converted),
            await frames_of(RenderOptions(output="I420"), CALM),
        ]

    bgr, rgb, i420 = asyncio.run(run())
    for one, other, planes in zip(bgr, rgb, i420, strict=True):
        assert np.array_equal(one.video[..., ::-1], other.video)
        assert other.video.flags.c_contiguous
        assert planes.video.shape == (360, 320)
        assert other.audio.shape == (1920, 2)
    upsampled = np.concatenate([f.audio[:, 0] for f in rgb])
    assert np.abs(upsampled[::3] - heard(bgr)).max() < 0.02


def test_for_callers_without_an_event_loop(server: Server) -> None:
    wave = speech(1.0)
    with (
        LipSyncClient(server.http_url) as client,
        client.live("toy", RenderOptions(output="JPEG"), CALM) as session,
    ):
        session.feed_from([wave[:7001], wave[7001:]])
        frames = list(session)
        with pytest.raises(InputError, match="takes no more audio"):
            session.feed(wave)
    assert any(f.video[:2] == b"\xff\xd8" for f in frames if f.video is not None)
    audio = heard(frames)
    at = int(np.argmax(audio != 0)) - int(np.argmax(wave != 0))
    assert np.array_equal(audio[at : at + len(wave)], wave)


def test_the_error_of_a_source_reaches_those_who_take_the_frames(server: Server) -> None:
    wave = speech(1.0)

    async def source() -> AsyncIterator[NDArray[Any]]:
        yield wave
        raise LookupError("the synthesiser has failed")

    async def run() -> list[LiveFrame]:
        frames: list[LiveFrame] = []
        async with (
            AsyncLipSyncClient(server.grpc_url) as client,
            client.live("toy", RAW, CALM) as session,
        ):
            session.feed_from(source())
            with pytest.raises(LookupError, match="has failed"):
                await collect(session, frames)
        return frames

    audio = heard(asyncio.run(run()))
    at = int(np.argmax(audio != 0)) - int(np.argmax(wave != 0))
    assert np.array_equal(audio[at : at + len(wave)], wave), "what came before it is played"


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((10, 2), np.float32), r"must be \(n, 1\) or \(n,\), got \[10, 2\]"),
        (np.zeros(10, np.int32), "float in -1..1 or int16, got int32"),
        (np.array([0.0, np.nan]), "one of them is NaN"),
    ],
)
def test_bad_audio_is_refused_and_harms_nothing(
    server: Server, samples: NDArray[Any], message: str
) -> None:
    async def act(session: LiveSession, _: list[LiveFrame]) -> None:
        with pytest.raises(InputError, match=message):
            await session.feed(samples)
        await session.feed(speech(0.4))
        session.finish()

    frames, _ = session_of(server, act)
    assert len(frames) >= 10


def test_bad_options_are_refused(server: Server) -> None:
    async def run(avatar: str, live_options: LiveOptions, options: RenderOptions) -> None:
        async with (
            AsyncLipSyncClient(server.grpc_url) as client,
            client.live(avatar, options, live_options),
        ):
            pass

    with pytest.raises(InputError, match="1 to 32 frames, got 33"):
        asyncio.run(run("toy", LiveOptions(chunk=33), RAW))
    with pytest.raises(InputError, match="rgb needs the output FRAMES, got JPEG"):
        asyncio.run(run("toy", LiveOptions(rgb=True), RenderOptions(output="JPEG")))
    with pytest.raises(UnknownAvatar):
        asyncio.run(run("nobody", LiveOptions(), RAW))


def test_a_server_that_is_gone_ends_the_session(toy_server: Server) -> None:
    async def act(session: LiveSession, frames: list[LiveFrame]) -> None:
        await session.feed(speech(20.0))
        await until(frames, 20)
        await asyncio.to_thread(end_server, toy_server)

    with pytest.raises(ServerError):
        session_of(toy_server, act, LiveOptions(reconnect_timeout_s=2.0))


def test_sessions_that_end_leave_nothing(server: Server) -> None:
    """Some are left in the middle, some while they wait; tasks, threads and files are all given back."""
    process = psutil.Process(os.getpid())

    async def one(client: AsyncLipSyncClient, frames: int) -> None:
        async with client.live("toy", RAW, CALM) as session:
            await session.feed(speech(3.0))
            async for frame in session:
                if frame.index >= frames:
                    return

    async def run() -> int:
        async with AsyncLipSyncClient(server.grpc_url) as client:
            await one(client, 3)
            before = process.num_fds(), threading.active_count(), len(asyncio.all_tasks())
            await asyncio.gather(*(one(client, n) for n in range(12)))
            deadline = time.monotonic() + 30
            while (
                after := (
                    process.num_fds(),
                    threading.active_count(),
                    len(asyncio.all_tasks()),
                )
            ) != before and time.monotonic() < deadline:
                await asyncio.sleep(0.1)
            assert after == before
        return len(asyncio.all_tasks())

    assert asyncio.run(run()) == 1
