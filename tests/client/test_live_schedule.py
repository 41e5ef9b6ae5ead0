"""The decisions of a live session, in virtual time: no clock, no server, the same every time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lipsync_client import LiveFrame, LiveOptions, LiveSession
from support.live_simulation import (
    SimulatedServer,
    Simulation,
    assert_exact,
    at_pace,
    audio_of,
    noise,
    paced,
    with_pauses,
)

LOOK_AHEAD_S = 0.4525


def test_a_burst_is_heard_as_soon_as_the_server_can_keep_up() -> None:
    fed: list[float] = []

    async def act(session: LiveSession, _: list[LiveFrame]) -> None:
        for number in range(8):
            await asyncio.sleep(2.0 + 0.0137 * number)
            fed.append(asyncio.get_running_loop().time())
            await session.feed(noise(2.0, number))
            session.flush()
            await asyncio.sleep(3.0)
        session.finish()

    run = Simulation(act, SimulatedServer(frame_s=0.015))
    for begun in fed:
        heard = next(
            t for f, t in zip(run.frames, run.times, strict=True) if t > begun and f.audio.any()
        )
        assert heard - begun <= 0.2 + 1e-6, (
            "the look-ahead is in hand: only the server's time is waited for"
        )
    assert_exact(run)
    assert run.session.report.replies == 8
    assert [f.end_of_reply for f in run.frames].count(True) == 8
    assert run.session.position == 8 * 32000


def test_the_mouth_closes_although_the_next_audio_is_placed_far_ahead() -> None:
    async def act(session: LiveSession, frames: list[LiveFrame]) -> None:
        await session.feed(noise(4.0))
        while not any(frame.audio.any() for frame in frames[-20:-19]):
            await asyncio.sleep(0.01)
        session.interrupt()
        await session.feed(noise(2.0, 1))
        session.finish()

    run = Simulation(act, SimulatedServer(frame_s=0.03), LiveOptions(margin_s=1.5))
    assert_exact(run)


@pytest.mark.parametrize(("frame_s", "latency_s"), [(0.008, 0.62), (0.015, 0.65), (0.025, 0.86)])
def test_audio_at_the_pace_of_speech_keeps_a_steady_latency(
    frame_s: float, latency_s: float
) -> None:
    run = Simulation(at_pace(), SimulatedServer(frame_s=frame_s))
    report = run.session.report
    first, last = report.latency_s(1), report.latency_s(99)
    assert first is not None
    assert last is not None
    assert LOOK_AHEAD_S < first <= last < latency_s
    assert last - first < 0.065
    assert (report.repeated, report.waits, report.stalls) == (0, 0, 0)
    assert_exact(run)


def test_as_few_frames_are_requested_as_the_server_keeps_up_with() -> None:
    """A server of two cores takes as long for one frame as for two."""

    class TwoCores(SimulatedServer):
        async def _work(self, count: int) -> None:
            counts.append(count)
            await asyncio.sleep(0.018 + 0.033 * math.ceil(count / 2))

    counts: list[int] = []
    run = Simulation(at_pace(40.0), TwoCores())
    assert counts.count(2) > 0.8 * len(counts)
    assert (run.session.report.repeated, run.session.report.stalls) == (0, 0)
    assert_exact(run)


@pytest.mark.parametrize("speed", [0.8, 0.95, 0.999])
def test_a_source_that_falls_behind_is_waited_for_and_nothing_drifts(speed: float) -> None:
    seconds = 20.0
    run = Simulation(at_pace(seconds, speed))
    report = run.session.report
    missing_s = seconds / speed - seconds
    assert missing_s - 0.1 < report.waited_s < missing_s + 0.6
    latency = report.latency_s(99)
    assert latency is not None
    assert latency < 0.65 + 0.6, "it does not grow with the time"
    fed, played = with_pauses(noise(seconds)), audio_of(run.frames)
    assert np.array_equal(fed[fed != 0], played[played != 0]), "not a sample of speech is lost"
    assert_exact(run)


def test_a_pause_grows_rather_than_that_a_word_is_torn() -> None:
    run = Simulation(at_pace(20.0, 0.99))
    assert run.session.report.waits
    assert max(b - a for a, b in pairwise(run.times)) < 0.05, "the frames go on"


@pytest.mark.parametrize("stands_s", [0.5, 2.0])
def test_a_server_that_stands_still_is_waited_for_and_the_latency_comes_back(
    stands_s: float,
) -> None:
    server = SimulatedServer()

    async def act(session: LiveSession, frames: list[LiveFrame]) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(5.0, setattr, server, "stands_still_until", 5.0 + stands_s)
        await at_pace(40.0)(session, frames)

    run = Simulation(act, server)
    report = run.session.report
    assert report.stalls == 1
    assert 0.2 < report.stalled_s < 1.0 + 0.2
    assert bool(report.repeated) == (stands_s > 1.0)
    assert_exact(run)
    assert all(f.video is not None for f in run.frames[-100:])
    assert run.times[-1] - 41.013 < 0.75, "the pauses were shortened"


def test_an_interruption_takes_effect_at_once_and_says_what_was_heard() -> None:
    told: list[tuple[int, int]] = []

    async def act(session: LiveSession, frames: list[LiveFrame]) -> None:
        for number in range(30):
            await session.feed(noise(3.0, number))
            await asyncio.sleep(0.05 + 0.037 * number)
            told.append((len(frames), session.interrupt()))
            await asyncio.sleep(0.01 * (number % 7))
        await asyncio.sleep(1.0)
        session.finish()

    run = Simulation(act)
    for number, (at, position) in enumerate(told):
        cut = at + 1
        block = noise(3.0, number)[:position]
        played = audio_of(run.frames[:cut])
        assert np.array_equal(played[len(played) - len(block) :], block), "to the sample"
        assert not run.frames[cut].audio[: 0 if position else None].any() or number < len(told) - 1
    assert run.session.report.interruptions == 30
    assert not run.session.report.repeated
    assert run.frames[-1].idle
    assert_exact(run)


@pytest.mark.parametrize("frame_s", [0.008, 0.015, 0.022])
def test_ten_interruptions_a_second_harm_nothing(frame_s: float) -> None:
    """The server works on requests that are no longer wanted, and the new ones allow for it."""

    async def act(session: LiveSession, _: list[LiveFrame]) -> None:
        for number in range(100):
            await session.feed(noise(2.0, number))
            await asyncio.sleep(0.1)
            session.interrupt()
        await session.feed(noise(2.0))
        session.finish()

    run = Simulation(act, SimulatedServer(frame_s=frame_s))
    assert np.array_equal(audio_of(run.frames)[-32000:], noise(2.0))
    assert run.session.report.repeated == 0
    assert max(b - a for a, b in pairwise(run.times)) < 0.4


def test_the_loop_goes_on_and_the_mouth_opens_before_and_closes_after_the_audio() -> None:
    async def act(session: LiveSession, _: list[LiveFrame]) -> None:
        await asyncio.sleep(2.0)
        await session.feed(noise(1.0))
        session.flush()
        await asyncio.sleep(3.0)
        session.finish()

    run = Simulation(act)
    spoken = [f.index for f in run.frames if f.audio.any()]
    moving = [f.index for f in run.frames if not f.idle]
    assert moving == list(range(moving[0], moving[-1] + 1))
    assert spoken[0] - moving[0] >= 2
    assert moving[-1] - spoken[-1] >= 5
    assert [f.loop_index for f in run.frames] == [f.index % 18 for f in run.frames]


def test_a_reply_that_was_played_before_its_flush_ends_with_the_next_frame() -> None:
    async def act(session: LiveSession, _: list[LiveFrame]) -> None:
        await session.feed(noise(1.0))
        await asyncio.sleep(4.0)
        session.finish()

    run = Simulation(act)
    assert [f.index for f in run.frames if f.end_of_reply] == [len(run.frames) - 1]
    assert run.events[-1].kind == "playback_finished"


steps = st.lists(
    st.sampled_from(
        ["burst", "pace", "flush", "interrupt", "interrupt often", "wait", "stall", "short"]
    ),
    min_size=3,
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(steps, st.sampled_from([0.004, 0.015, 0.03]))
def test_whatever_happens_each_frame_belongs_to_the_audio(todo: list[str], frame_s: float) -> None:
    server = SimulatedServer(frame_s)

    async def act(session: LiveSession, _: list[LiveFrame]) -> None:
        loop = asyncio.get_running_loop()
        doing: dict[str, Callable[[int], object]] = {
            "burst": lambda n: session.feed(noise(1.7, n)),
            "short": lambda n: session.feed(noise(0.13, n)),
            "pace": lambda n: paced(session, noise(0.9, n)),
            "wait": lambda n: asyncio.sleep(0.31 * (n % 4)),
        }
        for number, step in enumerate(todo):
            if step == "interrupt":
                session.interrupt()
            elif step == "interrupt often":
                for n in range(5):
                    await session.feed(noise(2.0, number + n))
                    await asyncio.sleep(0.1)
                    session.interrupt()
            elif step == "flush":
                session.flush()
            elif step == "stall":
                server.stands_still_until = loop.time() + 0.4
            else:
                await doing[step](number)  # type: ignore[misc]
        session.finish()

    run = Simulation(act, server)
    assert [f.index for f in run.frames] == list(range(len(run.frames)))
    assert [f.loop_index for f in run.frames] == [f.index % 18 for f in run.frames]
    assert_exact(run)
    kinds = [event.kind for event in run.events]
    assert kinds.count("first_audio") == kinds.count("playback_finished") + kinds.count(
        "interrupted"
    )
