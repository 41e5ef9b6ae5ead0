"""Live sessions: each picture belongs to the sound beside it, whatever happens."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Callable, Coroutine
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
PERIOD = 18  # frames of a time round of the toy avatar, which has ten
# However slow the machine, picture and sound wait for the server, and no picture is left out.
CALM = LiveOptions(
    margin_s=0.6, jitter_s=0.3, stall_s=1000.0, timeout_s=10.0, reconnect_timeout_s=60.0
)


async def paced(session: LiveSession, wave: NDArray[Any], block_s: float = 0.02) -> None:
    """Feed at the speed of life."""
    size, begun = round(block_s * session.live.rate), time.monotonic()
    for n, at in enumerate(range(0, len(wave), size)):
        await asyncio.sleep(max(0.0, begun + n * block_s - time.monotonic()))
        await session.feed(wave[at : at + size])


Act = Callable[[LiveSession, list[LiveFrame]], Coroutine[Any, Any, None]]


def session_of(
    server: Server, act: Act, live: LiveOptions = CALM, plan: RenderOptions = RAW
) -> tuple[list[LiveFrame], LiveSession]:
    """All frames of a session, while `act` feeds it."""

    async def run() -> tuple[list[LiveFrame], LiveSession]:
        frames: list[LiveFrame] = []
        async with (
            AsyncLipSyncClient(server.grpc_url) as client,
            client.live("toy", plan, live) as session,
        ):
            acting = asyncio.create_task(act(session, frames))
            async for frame in session:
                frames.append(frame)
            await acting
        assert not session._under_way
        return frames, session

    return asyncio.run(run())


def reference(server: Server, wave: NDArray[Any], loop_index: int = 0) -> NDArray[Any]:
    """The same clip rendered in one piece, with silence before and after it."""
    whole = np.concatenate([np.zeros(LEAD * 640), wave, np.zeros(16000)]).astype(np.float32)
    count, triton = len(wave) // 640, Triton(server, "grpc")
    parts = [
        triton.frames(
            "toy", whole, first=LEAD + at, count=min(32, count - at), loop_offset=loop_index - LEAD
        )
        for at in range(0, count, 32)
    ]
    return np.concatenate(parts)


def assert_together(server: Server, frames: list[LiveFrame], loop_index: int = 0) -> None:
    """Every picture is the one that the sound so far and the sound to come make."""
    wave = np.concatenate([f.audio[:, 0] for f in frames])
    wanted = reference(server, wave, loop_index)
    assert [f.index for f in frames] == list(range(len(frames)))
    shown = [f for f in frames if f.video is not None]
    for frame in shown:
        assert np.array_equal(frame.video, wanted[frame.index]), frame.index
        assert frame.loop_index == (loop_index + frame.index) % PERIOD


def test_pictures_belong_to_the_sound(server: Server) -> None:
    wave = speech(3.0)

    async def act(session: LiveSession, _frames: list[LiveFrame]) -> None:
        await asyncio.sleep(0.7)
        await paced(session, wave)
        session.finish()

    frames, session = session_of(server, act)
    sound = np.concatenate([f.audio[:, 0] for f in frames])
    at = int(np.argmax(sound != 0)) - int(np.argmax(wave != 0))
    assert np.array_equal(sound[at : at + len(wave)], wave), "not a sample is lost or put in"
    assert_together(server, frames)
    assert not session.report.repeated
    assert frames[0].idle
    assert not frames[-3].idle
    latency = session.report.latency_s(5)
    assert latency is not None
    assert latency > 0.4525 + 0.16, "that much the models and the chunks ask for"


def test_a_burst_plays_at_once_and_whole(server: Server) -> None:
    """A speech synthesiser gives its sound faster than it is spoken, at another rate, before anyone looks."""
    wave = np.stack([speech(3.0, 1), speech(3.0, 2)], 1)[:48000]
    plan = RenderOptions(output="FRAMES", loop_offset=7)

    async def run() -> list[LiveFrame]:
        live = replace(CALM, rate=24000, channels=2)
        async with (
            AsyncLipSyncClient(server.grpc_url) as client,
            client.live("toy", plan, live) as session,
        ):
            await session.feed((wave * 32767).astype(np.int16))
            session.finish()
            return [frame async for frame in session]

    frames = asyncio.run(run())
    assert len(frames) == 50
    sound = np.concatenate([f.audio for f in frames])
    assert sound.shape == (48000, 2)
    assert np.abs(sound - wave).max() < 1e-4
    assert all(f.video is not None for f in frames)
    assert [f.loop_index for f in frames] == [(7 + i) % PERIOD for i in range(50)]


def test_rest_costs_nothing_once_it_is_known(server: Server) -> None:
    async def act(session: LiveSession, frames: list[LiveFrame]) -> None:
        while len(frames) < 2 * PERIOD:
            await asyncio.sleep(0.02)
        made.append(frames_made(server, "toy_generator"))
        while len(frames) < 4 * PERIOD:
            await asyncio.sleep(0.02)
        made.append(frames_made(server, "toy_generator"))
        session.finish()

    made: list[int] = []
    frames, _ = session_of(server, act)
    assert all(f.idle for f in frames)
    assert_together(server, frames)
    assert made[0] == made[1]


def test_an_interruption_is_seen_within_two_frames(server: Server) -> None:
    when: list[int] = []

    async def act(session: LiveSession, frames: list[LiveFrame]) -> None:
        await session.feed(speech(20.0))
        for at in (33, 75):
            while len(frames) < at:
                await asyncio.sleep(0.005)
            session.interrupt()
            when.append(len(frames))
            while len(frames) < at + 25:
                await asyncio.sleep(0.005)
            await session.feed(speech(20.0, at))
        while len(frames) < 120:
            await asyncio.sleep(0.005)
        session.interrupt()
        session.finish()

    frames, _ = session_of(server, act)
    triton, silence = Triton(server, "grpc"), np.zeros(24000, np.float32)
    for at in when:
        after = frames[at : at + 20]
        first = next(n for n, f in enumerate(after) if f.idle)
        assert first <= 2
        resting = [f for f in after if f.idle]
        assert len(resting) >= 10
        assert not any(f.audio.any() for f in resting)
        assert all(f.video is not None for f in resting)
        for frame in resting:
            if frame.video is not None:
                expected = triton.frames(
                    "toy", silence, first=LEAD, count=1, loop_offset=frame.loop_index - LEAD
                )
                assert np.array_equal(frame.video, expected[0])
    steps = [(b.loop_index - a.loop_index) % PERIOD for a, b in itertools.pairwise(frames)]
    assert sorted(set(steps)) in ([1], [1, 2], [1, 3], [1, 2, 3]), "the motion goes on"
    assert sum(step > 1 for step in steps) <= len(when) + 1
    assert len(frames) < 130, "what was queued is gone"


def test_a_server_that_stands_still_costs_video_and_never_audio(toy_server: Server) -> None:
    """While it is stopped, frames with audio alone go on; what is shown afterwards belongs to the audio."""
    family = [psutil.Process(toy_server.pid)]
    family += family[0].children(recursive=True)

    async def act(session: LiveSession, frames: list[LiveFrame]) -> None:
        feeding = asyncio.create_task(paced(session, speech(8.0)))
        while len(frames) < 30:
            await asyncio.sleep(0.02)
        for process in family:
            process.suspend()
        before = sum(f.video is None for f in frames)
        while sum(f.video is None for f in frames) < before + 20:
            await asyncio.sleep(0.02)
        for process in family:
            process.resume()
        stopped.append(len(frames))
        await feeding
        session.finish()

    stopped: list[int] = []
    frames, session = session_of(toy_server, act, replace(CALM, stall_s=0.5))
    assert session.report.repeated >= 20
    assert frames[-1].index == len(frames) - 1
    assert any(f.video is not None for f in frames[stopped[0] :]), "it recovers"
    assert_together(toy_server, frames)


def test_a_slow_reader_gets_all_the_sound(server: Server) -> None:
    wave = speech(4.0)

    async def run() -> list[LiveFrame]:
        frames = []
        async with (
            AsyncLipSyncClient(server.grpc_url) as client,
            client.live("toy", RAW, CALM) as session,
        ):
            feeding = asyncio.create_task(paced(session, wave))
            async for frame in session:
                frames.append(frame)
                if len(frames) == 40:
                    await asyncio.sleep(1.5)
                if feeding.done():
                    session.finish()
        return frames

    frames = asyncio.run(run())
    sound = np.concatenate([f.audio[:, 0] for f in frames])
    at = int(np.argmax(sound != 0)) - int(np.argmax(wave != 0))
    assert np.array_equal(sound[at : at + len(wave)], wave)
    assert_together(server, frames)


def test_for_callers_without_an_event_loop(server: Server) -> None:
    wave = speech(1.0)
    with (
        LipSyncClient(server.http_url) as client,
        client.live("toy", RenderOptions(output="JPEG"), CALM) as session,
    ):

        def talk() -> None:
            session.feed(wave)
            session.finish()

        talking = threading.Thread(target=talk)
        talking.start()
        frames = list(session)
        talking.join()
        with pytest.raises(InputError, match="takes no more sound"):
            session.feed(wave)
    assert sum(len(f.audio) for f in frames) == -(-len(wave) // 640) * 640
    assert any(f.video[:2] == b"\xff\xd8" for f in frames if f.video is not None)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((10, 2), np.float32), r"must be \(n, 1\) or \(n,\), got \[10, 2\]"),
        (np.zeros(10, np.int32), "float in -1..1 or int16, got int32"),
        (np.array([0.0, np.nan]), "one of them is NaN"),
    ],
)
def test_bad_sound_is_refused_and_harms_nothing(
    server: Server, samples: NDArray[Any], message: str
) -> None:
    async def act(session: LiveSession, _frames: list[LiveFrame]) -> None:
        with pytest.raises(InputError, match=message):
            await session.feed(samples)
        await session.feed(speech(0.4))
        session.finish()

    frames, _ = session_of(server, act)
    assert len(frames) >= 10


def test_bad_settings_are_refused(server: Server) -> None:
    async def run(avatar: str, live: LiveOptions) -> None:
        async with AsyncLipSyncClient(server.grpc_url) as client, client.live(avatar, None, live):
            pass

    with pytest.raises(InputError, match="multiple of 25"):
        asyncio.run(run("toy", LiveOptions(rate=11_030)))
    with pytest.raises(InputError, match="1 to 32 frames, got 33"):
        asyncio.run(run("toy", LiveOptions(chunk=33)))
    with pytest.raises(UnknownAvatar):
        asyncio.run(run("nobody", LiveOptions()))


def test_a_server_that_is_gone_ends_the_session(toy_server: Server) -> None:
    live = LiveOptions(reconnect_timeout_s=2.0)

    async def act(session: LiveSession, frames: list[LiveFrame]) -> None:
        await session.feed(speech(20.0))
        while len(frames) < 20:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(end_server, toy_server)

    with pytest.raises(ServerError):
        session_of(toy_server, act, live)


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
            await asyncio.sleep(0.2)
            after = process.num_fds(), threading.active_count(), len(asyncio.all_tasks())
            assert after == before
        return len(asyncio.all_tasks())

    assert asyncio.run(run()) == 1
