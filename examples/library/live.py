"""Audio in as it comes, 25 frames of video and audio per second out, until the audio ends.

Here a file is fed at the pace of speech; a microphone or a speech synthesiser does as well. Without audio the
avatar is idle, its mouth closed.

    python examples/library/live.py grpc://127.0.0.1:8001 examples/speech.wav demo
"""

import asyncio
import sys
from collections.abc import AsyncIterator

import numpy as np
import soundfile
from numpy.typing import NDArray

from lipsync_client import AsyncLipSyncClient, LiveOptions, RenderOptions

url, path, avatar = sys.argv[1:]
samples, rate = soundfile.read(path, dtype="float32", always_2d=True)


async def microphone() -> AsyncIterator[NDArray[np.float32]]:
    for begin in range(0, len(samples), rate // 50):
        yield samples[begin : begin + rate // 50]
        await asyncio.sleep(1 / 50)


async def main() -> None:
    live = LiveOptions(rate=rate, channels=samples.shape[1])
    async with (
        AsyncLipSyncClient(url) as client,
        client.live(avatar, RenderOptions(output="JPEG"), live) as session,
    ):
        session.feed_from(microphone())
        shown = 0
        async for frame in session:  # frame.audio belongs to frame.video; None: repeat the last one
            shown += frame.video is not None
        print(f"{session.report.frames} frames, {shown} shown; latency {session.latency_s:.2f} s")


asyncio.run(main())
