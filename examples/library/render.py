"""Take the frames of a clip as they are made, in a program with an event loop of its own.

The memory does not grow with the clip. The frames are H.264 access units, which join by concatenation; other
outputs are `RenderOptions(output="JPEG")` and `RenderOptions(output="FRAMES")`, raw BGR.

    python examples/library/render.py grpc://127.0.0.1:8001 examples/speech.wav demo
"""

import asyncio
import sys
from pathlib import Path

from lipsync_client import AsyncLipSyncClient


async def main(url: str, audio: str, avatar: str) -> None:
    async with AsyncLipSyncClient(url) as client:
        with Path("talk.h264").open("wb") as file:
            async for chunk in client.render(audio, avatar):
                for unit in chunk.frames:
                    file.write(unit)
                print(f"frames {chunk.start} to {chunk.start + len(chunk.frames) - 1}")


asyncio.run(main(*sys.argv[1:]))
