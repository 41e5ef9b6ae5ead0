"""A conversation in figures: bursts, the pace of speech, interruptions, a slow source, overload and rest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import click
import numpy as np
from numpy.typing import NDArray

from lipsync_client import (
    AsyncLipSyncClient,
    LiveEvent,
    LiveFrame,
    LiveSession,
    RenderOptions,
    ServerError,
)
from lipsync_client.protocol import FPS, SAMPLE_RATE
from lipsync_preprocessing.profiles.settings import OPENVINO_F32

from .case import AVATAR, build, build_demo, machine, speech_file, speech_samples
from .live_sessions import feed_at_pace
from .measure import Setup, serve
from .tables import table

WARM_UP_S = 6.0  # of speech before the measurements, and of rest for a time round the avatar's loop
BURST_S, BLOCK_S = 2.0, 0.02
OVERLOAD = (1, 3, 8, 20)  # sessions
AT_REST = 50  # sessions
JPEG = RenderOptions(output="JPEG")
Samples = NDArray[np.float32]
Act = Callable[["Recorded"], Awaitable[None]]


@dataclass
class Recorded:
    """A session with its frames, the times at which they were given, and its events."""

    session: LiveSession
    frames: list[LiveFrame]
    times: list[float]
    events: list[LiveEvent]

    async def until(self, kind: str, count: int) -> LiveEvent:
        """Return the event number `count` of a kind, counted from 1, when it has come."""
        while True:
            found = [event for event in self.events if event.kind == kind]
            if len(found) >= count:
                return found[count - 1]
            await asyncio.sleep(0.005)


async def record(url: str, act: Act) -> Recorded:
    """Return a session that `act` has fed, after its warm-up."""
    events: list[LiveEvent] = []
    async with (
        AsyncLipSyncClient(url) as client,
        client.live(AVATAR, JPEG, on_event=events.append) as session,
    ):
        recorded = Recorded(session, [], [], events)

        async def take() -> None:
            async for frame in session:
                recorded.frames.append(frame)
                recorded.times.append(time.monotonic())

        taking = asyncio.create_task(take())
        await act(recorded)
        session.finish()
        await taking
    return recorded


async def warm_up(recorded: Recorded, speech: Samples) -> None:
    """Show the avatar's loop once, and speak."""
    await asyncio.sleep(2 * WARM_UP_S)
    await feed_for(recorded.session, speech, WARM_UP_S)
    await asyncio.sleep(2.0)
    recorded.events.clear()


async def feed_for(
    session: LiveSession, speech: Samples, seconds: float, speed: float = 1.0
) -> None:
    """Feed speech at a multiple of its pace, and end the reply."""
    begun, size = time.monotonic(), round(BLOCK_S * SAMPLE_RATE)
    for n in range(round(seconds / BLOCK_S)):
        await asyncio.sleep(max(0.0, begun + n * BLOCK_S / speed - time.monotonic()))
        await session.feed(speech[n * size : (n + 1) * size])
    session.flush()


def percentiles(values: list[float]) -> list[str]:
    """Return p50 and p95 in seconds."""
    return [f"{np.percentile(values, p):.3f}" for p in (50, 95)]


async def bursts(url: str, speech: Samples, count: int) -> list[list[str]]:
    """Return the lines of replies that come as bursts after rest."""
    moved: list[float] = []
    heard: list[float] = []

    async def act(recorded: Recorded) -> None:
        await warm_up(recorded, speech)
        for n in range(count):
            at = n * SAMPLE_RATE // 3 % (len(speech) - 2 * SAMPLE_RATE)
            fed_at = time.monotonic()
            await recorded.session.feed(speech[at : at + round(BURST_S * SAMPLE_RATE)])
            recorded.session.flush()
            moved.append((await recorded.until("first_frame", n + 1)).time_s - fed_at)
            heard.append((await recorded.until("playback_started", n + 1)).time_s - fed_at)
            await recorded.until("playback_finished", n + 1)
            await asyncio.sleep(1.0 + 0.013 * (n % 7))

    report = (await record(url, act)).session.report
    note = f"{count} replies, {report.repeated} frames repeated"
    return [
        ["burst of 2 s: first speaking frame", *percentiles(moved), note],
        ["burst of 2 s: first sample", *percentiles(heard), ""],
    ]


async def at_pace(url: str, speech: Samples, seconds: float) -> list[list[str]]:
    """Return the line of speech at its own pace."""
    feeding: list[float] = []

    async def act(recorded: Recorded) -> None:
        await asyncio.sleep(2 * WARM_UP_S)
        await feed_for(recorded.session, speech, seconds)
        feeding.append(recorded.session.latency_s)

    report = (await record(url, act)).session.report
    found = [f"{report.latency_s(p):.3f}" for p in (50, 95)]
    note = f"{report.repeated} repeated, {report.waits} waits, {report.stalls} stalls"
    return [["pace of speech: sample to frame", *found, note]]


async def interruptions(url: str, speech: Samples, count: int) -> list[list[str]]:
    """Return the line of interruptions: played time until silence, and the returned positions."""
    rest: list[float] = []
    exact = 0

    async def act(recorded: Recorded) -> None:
        nonlocal exact
        await warm_up(recorded, speech)
        for n in range(count):
            block = speech[n * 4000 :][: 4 * SAMPLE_RATE]
            await recorded.session.feed(block)
            await recorded.until("playback_started", n + 1)
            await asyncio.sleep(0.3 + 0.037 * (n % 17))
            at, heard = len(recorded.frames), recorded.session.interrupt()
            await asyncio.sleep(1.5)
            silent = next(i for i in range(at, len(recorded.frames)) if is_silent(recorded, i))
            rest.append((silent - at) / FPS)
            last = recorded.frames[max(0, at - 200) : at + 1]
            played = np.concatenate([frame.audio[:, 0] for frame in last])
            exact += np.array_equal(played[len(played) - heard :], block[:heard])

    await record(url, act)
    note = f"position exact to the sample in {exact} of {count}"
    return [["interruption to silence, played time", *percentiles(rest), note]]


def is_silent(recorded: Recorded, number: int) -> bool:
    """Return whether a frame has no audio."""
    return not recorded.frames[number].audio.any()


async def slow_source(url: str, speech: Samples) -> list[list[str]]:
    """Return the line of a source at 0.8 times the pace of speech, for 10 s."""

    async def act(recorded: Recorded) -> None:
        await warm_up(recorded, speech)
        await feed_for(recorded.session, speech, 8.0, speed=0.8)

    report = (await record(url, act)).session.report
    found = [f"{report.latency_s(p):.3f}" for p in (50, 95)]
    note = f"{report.waits} waits of {report.waited_s:.2f} s in all, for 2.00 s that were missing"
    return [["source at 0.8 of the pace: sample to frame", *found, note]]


async def overload(url: str, speech: Samples, count: int, seconds: float) -> list[str]:
    """Return the line of several sessions, each with a client of its own."""
    ended = 0

    async def one(number: int) -> int:
        nonlocal ended
        await asyncio.sleep(0.37 * number % 1.0)
        shown, wanted = 0, round(seconds * FPS)
        try:
            async with AsyncLipSyncClient(url) as client, client.live(AVATAR, JPEG) as session:
                feeding = asyncio.create_task(feed_at_pace(session, np.roll(speech, 9999 * number)))
                try:
                    async for frame in session:
                        shown += frame.index >= wanted // 3 and frame.video is not None
                        if frame.index >= wanted:
                            break
                finally:
                    feeding.cancel()
                    await asyncio.gather(feeding, return_exceptions=True)
        except ServerError:
            ended += 1
        return shown

    shown = np.array(await asyncio.gather(*(one(n) for n in range(count)))) / (seconds * 2 / 3)
    share = f"{shown.min() / shown.mean():.2f}" if shown.any() else "0"
    return [str(count), f"{shown.sum():.1f}", f"{shown.min():.1f}", share, str(ended)]


async def at_rest(url: str, seconds: float) -> float:
    """Return the share of a core that idle sessions of one client use, after a time round the loop."""
    async with AsyncLipSyncClient(url) as client:

        async def one() -> None:
            async with client.live(AVATAR, JPEG) as session:
                async for _ in session:
                    pass

        tasks = [asyncio.create_task(one()) for _ in range(AT_REST)]
        await asyncio.sleep(3 * WARM_UP_S)
        begun, used = time.perf_counter(), time.process_time()
        await asyncio.sleep(seconds)
        share = (time.process_time() - used) / (time.perf_counter() - begun)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return share


async def alone(url: str, seconds: float) -> float:
    """Return the frames per second of one render."""
    async with AsyncLipSyncClient(url) as client:
        begun, frames = time.perf_counter(), 0
        async for chunk in client.render(speech_file(seconds), AVATAR, JPEG):
            frames += len(chunk.frames)
        return frames / (time.perf_counter() - begun)


async def measure(url: str, replies: int, seconds: float) -> str:
    """Measure everything on one server, and return the tables."""
    speech = speech_samples(60.0)
    lines: list[list[str]] = []
    for work in (
        bursts(url, speech, replies),
        at_pace(url, speech, 2 * seconds),
        interruptions(url, speech, max(10, replies // 5)),
        slow_source(url, speech),
    ):
        lines += await work
        click.echo(f"  {lines[-1]}", err=True)
    shared = [await overload(url, speech, count, seconds) for count in OVERLOAD]
    fps, rest = await alone(url, seconds), await at_rest(url, seconds / 2)
    return f"""
{table(["", "p50 s", "p95 s", ""], lines)}
A render alone makes {fps:.1f} frames per second. Sessions side by side, each with a client of its own and \
speech at its own pace, for {seconds:g} s, of which the first third is not counted:

{table(["sessions", "frames shown per second", "least session", "least / mean", "ended"], shared)}
{AT_REST} idle sessions of one client use {rest:.1%} of a core together.
"""


@click.command()
@click.option("--avatar", type=click.Choice(["demo", "random"]), default="demo")
@click.option("--profile", default=OPENVINO_F32, help="Profile of the server.")
@click.option("--replies", default=200, help="Number of bursts.")
@click.option("--seconds", default=30.0, help="Seconds of speech, and of each overload.")
@click.option("--url", help="A server that runs already, with the avatar.")
def main(avatar: str, profile: str, replies: int, seconds: float, url: str | None) -> None:
    """Measure live sessions as a conversation has them."""
    head = f"\n## Live sessions as a conversation\n\n{avatar} avatar, {profile}, {machine()}.\n"
    if url is not None:
        build_demo()
        click.echo(head + asyncio.run(measure(url, replies, seconds)))
        return
    setup = Setup(profile, "demo" if avatar == "demo" else "random")
    with serve(setup, build(1.0), speech_file(WARM_UP_S)) as (server, _):
        click.echo(head + asyncio.run(measure(server.grpc_url, replies, seconds)))
