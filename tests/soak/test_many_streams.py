"""Many streams at once: all complete, none mixed up, none starved, in memory that has a bound."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import soundfile

from lipsync_client import AsyncLipSyncClient, RenderOptions
from lipsync_embedded import Server
from support.triton_calls import speech

PLAN = RenderOptions("JPEG", timeout_s=600.0)


@contextmanager
def peak_mb(server: Server) -> Iterator[list[float]]:
    """Unique memory of the server's processes: before, and at its most."""
    pids = psutil.Process(server.pid).children(recursive=True)
    seen: list[float] = []
    ended = threading.Event()

    def now() -> float:
        return float(sum(p.memory_full_info().uss for p in pids) / 2**20)

    def watch() -> None:
        while not ended.wait(0.25):
            seen[1] = max(seen[1], now())

    seen += [now()] * 2
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()


async def one(url: str, clip: Path) -> tuple[list[bytes], float]:
    """Frames of one stream on a connection of its own, and when it ended."""
    async with AsyncLipSyncClient(url) as client:
        frames = [f async for chunk in client.stream(clip, "toy", PLAN) for f in chunk.frames]
    return frames, time.monotonic()


async def rendered(url: str, clip: Path) -> list[bytes]:
    async with AsyncLipSyncClient(url) as client:
        return [f async for chunk in client.render(clip, "toy", PLAN) for f in chunk.frames]


@pytest.mark.parametrize(
    ("streams", "seconds"),
    [(8, 2.0), pytest.param(32, 5.0, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])],
)
def test_many_streams(server: Server, tmp_path: Path, streams: int, seconds: float) -> None:
    clips = []
    for seed in range(streams):
        clips.append(tmp_path / f"{seed}.wav")
        soundfile.write(clips[-1], speech(seconds, seed), 16_000)
    url = server.grpc_url

    async def all_at_once(some: list[Path]) -> tuple[list[list[bytes]], list[float]]:
        begun = time.monotonic()
        answers = await asyncio.gather(*(one(url, clip) for clip in some))
        return [frames for frames, _ in answers], [ended - begun for _, ended in answers]

    with peak_mb(server) as few:
        asyncio.run(all_at_once(clips[:4]))
    with peak_mb(server) as many:
        frames, times = asyncio.run(all_at_once(clips))
    print(
        f"{streams} streams of {seconds:g} s: first done after {min(times):.1f} s, last {max(times):.1f} s;"
        f" server {few[0]:.0f} MB, with 4 at once {few[1]:.0f} MB, with all {many[1]:.0f} MB"
    )
    assert max(times) <= 2 * min(times)
    assert many[1] <= 1.5 * few[1]
    alone = [asyncio.run(rendered(url, clip)) for clip in clips]
    assert len({tuple(x) for x in alone}) == streams
    assert [len(x) for x in frames] == [len(x) for x in alone]
    assert frames == alone
