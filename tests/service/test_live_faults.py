"""Live sessions with a real server that stands still or goes, slow readers, and bad input."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from lipsync_client import (
    AsyncLipSyncClient,
    InputError,
    LiveFrame,
    LiveOptions,
    LiveSession,
    RenderOptions,
    ServerError,
    UnknownAvatar,
)
from lipsync_embedded import Server
from support.live_recordings import CALM, RAW, assert_exact, collect, heard, session_of, until
from support.servers import end_server
from support.triton_calls import speech


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
