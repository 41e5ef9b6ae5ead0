"""Many streams at once: all are complete, none is mixed up or starved, and memory is bounded."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import soundfile

from lipsync_client import AsyncLipSyncClient, RenderOptions, _stream
from lipsync_embedded import Server
from support.triton_calls import speech

OPTIONS = RenderOptions("JPEG", timeout_s=600.0)


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


def assert_fair(order: list[int], streams: int) -> None:
    """No stream waits for another one to end: by the time one has all its chunks, each has at least one."""
    total, had = Counter(order), Counter[int]()
    for number in order:
        had[number] += 1
        if had[number] == total[number]:
            break
    assert min(had[number] for number in range(streams)) >= 1, had


async def rendered(url: str, clip: Path) -> list[bytes]:
    async with AsyncLipSyncClient(url) as client:
        return [f async for chunk in client.render(clip, "toy", OPTIONS) for f in chunk.frames]


@pytest.mark.parametrize(
    ("streams", "seconds"),
    [(8, 5.0), pytest.param(32, 5.0, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])],
)
def test_many_streams(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    streams: int,
    seconds: float,
) -> None:
    clips = []
    for seed in range(streams):
        clips.append(tmp_path / f"{seed}.wav")
        soundfile.write(clips[-1], speech(seconds, seed), 16_000)
    url = server.grpc_url

    order: list[int] = []  # the streams' numbers, as their chunks came

    async def one(client: AsyncLipSyncClient, number: int) -> list[bytes]:
        frames: list[bytes] = []
        async for chunk in client.stream(clips[number], "toy", OPTIONS):
            order.append(number)
            frames.extend(chunk.frames)
        return frames

    read_whole = _stream._read_whole

    async def at_once(count: int) -> list[list[bytes]]:
        order.clear()
        # No request is sent before all clips are decoded: a busy machine would show the decoders' order.
        decoded = threading.Barrier(count)

        def read_together(*arguments: Any) -> Any:
            samples = read_whole(*arguments)
            decoded.wait(timeout=120)
            return samples

        monkeypatch.setattr(_stream, "_read_whole", read_together)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(count))
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(AsyncLipSyncClient(url)) for _ in range(count)
            ]
            # Every connection is open before any stream begins.
            await asyncio.gather(*(client.avatars() for client in clients))
            return await asyncio.gather(*(one(client, n) for n, client in enumerate(clients)))

    with peak_mb(server) as few:
        asyncio.run(at_once(4))
    with peak_mb(server) as many:
        frames = asyncio.run(at_once(streams))
    monkeypatch.undo()
    print(
        f"{streams} streams of {seconds:g} s:"
        f" server {few[0]:.0f} MB, with 4 at once {few[1]:.0f} MB, with all {many[1]:.0f} MB"
    )
    assert_fair(order, streams)
    assert many[1] <= 1.5 * few[1]
    alone = [asyncio.run(rendered(url, clip)) for clip in clips]
    assert len({tuple(x) for x in alone}) == streams
    assert [len(x) for x in frames] == [len(x) for x in alone]
    assert frames == alone
