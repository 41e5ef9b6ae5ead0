"""Sound in as it comes, pictures and sound out at 25 a second, until the sound ends.

Here a file is spoken at the pace of life; a microphone or a speech synthesiser does as well. Without sound
the avatar rests, its mouth closed.

    python examples/library/live.py grpc://127.0.0.1:8001 examples/speech.wav demo
"""

import asyncio
import sys

import soundfile

from lipsync_client import AsyncLipSyncClient, LiveOptions, LiveSession, RenderOptions

url, path, avatar = sys.argv[1:]
samples, rate = soundfile.read(path, dtype="float32", always_2d=True)


async def talk(session: LiveSession) -> None:
    for begin in range(0, len(samples), rate // 50):
        await session.feed(samples[begin : begin + rate // 50])
        await asyncio.sleep(1 / 50)
    session.finish()


async def main() -> None:
    live = LiveOptions(rate=rate, channels=samples.shape[1])
    async with (
        AsyncLipSyncClient(url) as client,
        client.live(avatar, RenderOptions(output="JPEG"), live) as session,
    ):
        talking = asyncio.create_task(talk(session))
        shown = 0
        async for frame in session:  # frame.audio goes with frame.video; None: the last one stands
            shown += frame.video is not None
        await talking
    print(f"{session.report.frames} frames, {shown} pictures; latency {live.latency_s:.2f} s")


asyncio.run(main())
