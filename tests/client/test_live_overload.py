"""A live session and servers that refuse, are lost or have too many sessions, in virtual time."""

from __future__ import annotations

import asyncio
import random

import numpy as np
import pytest

from lipsync_client import LiveFrame, LiveOptions, LiveSession, Overloaded, Rejected, ServerLost
from lipsync_client._live.pool import LivePool
from lipsync_client._render import RenderOptions
from support import virtual_time
from support.live_simulation import (
    AVATAR,
    SimulatedServer,
    Simulation,
    audio_of,
    noise,
    paced,
)

JPEG = RenderOptions(output="JPEG")


def test_frames_that_are_not_wanted_are_not_made() -> None:
    async def act(session: LiveSession, _: list[LiveFrame]) -> None:
        await session.feed(noise(1.0))
        session.finish()

    run = Simulation(act)
    assert run.server.frames <= 25 + 2 + 5, (
        "each frame once, two before it, and the first idle ones"
    )


@pytest.mark.parametrize(("error", "ends"), [(Rejected("no"), True), (Overloaded("full"), False)])
def test_a_refusal_ends_the_session_and_overload_does_not(error: Exception, ends: bool) -> None:
    server = SimulatedServer()

    async def act(session: LiveSession, _: list[LiveFrame]) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(2.0, setattr, server, "error", error)
        loop.call_later(4.0, setattr, server, "error", None)
        await session.feed(noise(20.0))
        session.finish()

    if ends:
        with pytest.raises(Rejected):
            Simulation(act, server)
        return
    run = Simulation(act, server)
    assert 10 < run.session.report.repeated < 400
    assert all(f.video is not None for f in run.frames[-5:])


def test_a_server_that_is_lost_ends_the_session_after_the_timeout() -> None:
    server = SimulatedServer()
    frames: list[LiveFrame] = []

    async def act(session: LiveSession, given: list[LiveFrame]) -> None:
        asyncio.get_running_loop().call_later(2.0, setattr, server, "error", ServerLost("gone"))
        await session.feed(noise(29.0))
        while len(given) < 400:
            await asyncio.sleep(0.1)
            frames[:] = given

    with pytest.raises(ServerLost, match="gone"):
        Simulation(act, server, LiveOptions(reconnect_timeout_s=10.0))
    assert 10 * 25 < len(frames) < 14 * 25


def test_a_server_that_comes_back_before_the_timeout_is_used_again() -> None:
    server = SimulatedServer()

    async def act(session: LiveSession, _: list[LiveFrame]) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(4.0, setattr, server, "error", ServerLost("gone"))
        loop.call_later(11.0, setattr, server, "error", None)
        await session.feed(noise(29.0))
        session.finish()

    run = Simulation(act, server, LiveOptions(reconnect_timeout_s=10.0))
    assert run.session.report.repeated
    assert all(f.video is not None for f in run.frames[-25:])
    assert np.array_equal(audio_of(run.frames)[-16000:], noise(29.0)[-16000:])


async def share(server: SimulatedServer, sessions: int, seconds: float) -> list[list[int]]:
    """Return how many frames each of several processes' sessions shows, by seconds."""

    async def one(number: int) -> list[int]:
        shown = [0] * round(seconds + 5)
        await asyncio.sleep(0.37 * number % 1.0)
        loop = asyncio.get_running_loop()
        async with LiveSession(LivePool(server), AVATAR, JPEG, LiveOptions()) as session:
            feeding = asyncio.create_task(paced(session, noise(seconds, number)))
            feeding.add_done_callback(lambda _: session.finish())
            async for frame in session:
                shown[min(int(loop.time()), len(shown) - 1)] += frame.video is not None
        return shown

    return await asyncio.gather(*(one(number) for number in range(sessions)))


@pytest.mark.slow
@pytest.mark.parametrize("sessions", [1, 3, 8, 20])
def test_an_overloaded_server_is_shared_evenly(sessions: int) -> None:
    """From ten seconds on: 20 sessions take five to open. Chance evens out in a minute."""
    random.seed(sessions)
    server = SimulatedServer(frame_s=0.033, overhead=0.5)
    shown = virtual_time.run(share(server, sessions, 100.0))
    each = np.array([sum(seconds[10:98]) for seconds in shown]) / 88
    alone = 1 / (0.033 * (1 + 0.5 / 32))
    assert each.sum() >= 0.8 * min(alone, 25 * sessions)
    assert each.min() >= 0.5 * each.mean()
    assert server.refused <= 3 * server.requests, "a refusal costs the server something, too"
