"""Sessions of a process that will be killed: `live_sessions.py KIND GRPC_URL HTTP_URL CLIP COUNT`.

Each has a connection of its own and is in the middle of its work when the line "at work" is written.
KIND: stream (the streaming model), grpc or http (chunk by chunk, as live sessions), unread (HTTP, responses
never read).
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any
from urllib.parse import urlsplit

from lipsync_client import AsyncLipSyncClient, RenderOptions

# As a live session requests its chunks; the timeout is for busy machines.
OPTIONS = RenderOptions(chunk=8, in_flight=1, timeout_s=1200.0)


async def session(kind: str, url: str, clip: str, ready: asyncio.Event) -> None:
    async with AsyncLipSyncClient(url) as client:
        while True:
            chunks = (
                client.stream(clip, "toy", OPTIONS)
                if kind == "stream"
                else client.render(clip, "toy", OPTIONS)
            )
            async for _ in chunks:
                ready.set()


async def unread(url: str, ready: asyncio.Event) -> None:
    """Requests without end on one connection."""
    parts = urlsplit(url)
    _, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1)
    audio = {"name": "AUDIO", "datatype": "FP32", "shape": [16000], "data": [0.0] * 16000}
    body = json.dumps({"inputs": [audio], "outputs": [{"name": "JPEG"}]}).encode()
    head = f"POST /v2/models/toy/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    while True:
        writer.write(head.encode() + body)
        await writer.drain()
        ready.set()
        await asyncio.sleep(0.2)


async def main(kind: str, grpc_url: str, http_url: str, clip: str, count: str) -> None:
    ready = [asyncio.Event() for _ in range(int(count))]
    if kind == "unread":
        work = [unread(http_url, event) for event in ready]
    else:
        url = http_url if kind == "http" else grpc_url
        work = [session(kind, url, clip, event) for event in ready]
    tasks: asyncio.Future[Any] = asyncio.gather(*work)
    all_ready: asyncio.Future[Any] = asyncio.gather(*(event.wait() for event in ready))
    await asyncio.wait(
        [tasks, all_ready],
        return_when=asyncio.FIRST_COMPLETED,
    )
    print("at work", flush=True)
    await tasks


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
