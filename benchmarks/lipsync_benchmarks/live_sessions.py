"""Live sessions of one client process as a Job: speech in at the pace of speech, 25 frames per second out."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lipsync_client import AsyncLipSyncClient, LiveSession, ServerError
from lipsync_client.protocol import FPS, SAMPLE_RATE

from .case import AVATAR, speech_samples
from .job import Outcome

BLOCK = SAMPLE_RATE // 25  # samples that a session is fed at once
SPEECH_S = 30.0
WARM_UP_S = 2.0  # at the start of a session, not counted


@dataclass
class LiveSessions:
    """Live sessions side by side, each with speech from another place of the same recording.

    Attributes:
        url: of the server.
        sessions: how many.
        seconds: length of each session that is counted.
    """

    url: str
    sessions: int = 1
    seconds: float = 15.0
    avatar: str = AVATAR

    def prepare(self) -> None:
        self._speech = speech_samples(SPEECH_S)
        self._loop = asyncio.new_event_loop()
        self._client = AsyncLipSyncClient(self.url)
        self._loop.run_until_complete(self._client.avatar(self.avatar))

    def run(self) -> Outcome:
        """Run the sessions; the frames that a session lost by an error count as repeated."""
        begun = time.perf_counter()
        counts = self._loop.run_until_complete(self._run_all())
        frames = round(self.seconds * FPS) * self.sessions
        shown = sum(shown for shown, _ in counts)
        first_s = max(first_s for _, first_s in counts)
        return Outcome(frames, time.perf_counter() - begun, first_s, repeated=frames - shown)

    async def _run_all(self) -> list[tuple[int, float]]:
        return list(await asyncio.gather(*(self._run_session(n) for n in range(self.sessions))))

    async def _run_session(self, number: int) -> tuple[int, float]:
        """Run one session.

        Returns:
            the frames that were not repeated, and the seconds until the first frame.
        """
        await asyncio.sleep(number / self.sessions)  # the sessions' requests do not come at once
        begun, shown, first_s = time.perf_counter(), 0, 0.0
        skipped = round(WARM_UP_S * FPS)
        wanted = skipped + round(self.seconds * FPS)
        samples = np.roll(self._speech, -number * SAMPLE_RATE)
        try:
            async with self._client.live(self.avatar) as session:
                feeding = asyncio.create_task(feed_at_pace(session, samples))
                try:
                    async for frame in session:
                        first_s = first_s or time.perf_counter() - begun
                        shown += frame.index >= skipped and frame.video is not None
                        if frame.index + 1 == wanted:
                            break
                finally:
                    feeding.cancel()
                    await asyncio.gather(feeding, return_exceptions=True)
        except ServerError as e:  # the server was too slow for the session to go on
            print(f"session {number + 1} ended: {e}", file=sys.stderr)
        return shown, first_s


async def feed_at_pace(session: LiveSession, samples: NDArray[np.float32]) -> None:
    """Feed a session with samples, float32 [n] at 16 kHz, at the pace of speech, again and again."""
    begun, fed = time.perf_counter(), 0
    while True:
        for start in range(0, len(samples), BLOCK):
            await session.feed(samples[start : start + BLOCK])
            fed += BLOCK
            await asyncio.sleep(max(0.0, begun + fed / SAMPLE_RATE - time.perf_counter()))
