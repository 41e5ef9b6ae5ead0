"""Live sessions in virtual time, against a model of a server.

The model answers one request after the other, with the same arithmetic of slices as the real one. Instead
of an image it returns what the image is made of: the frame's place in the loop and the audio around it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lipsync_client import (
    LiveEvent,
    LiveFrame,
    LiveOptions,
    LiveSession,
    QueueTimeout,
    RenderOptions,
    protocol,
)
from lipsync_client._avatar import Avatar
from lipsync_client._live.pool import LivePool
from lipsync_client._transports.request import Request, Tensor

from . import virtual_time
from .seams import Seam, Seams

AVATAR = Avatar("toy", 320, 240, 10, 32)
PERIOD = 18  # frames of a time round its loop
LEAD = 16  # frames of silence before the session's own beginning


class SimulatedServer:
    """A server that takes `frame_s` for each frame and for the overhead of a request.

    Attributes:
        frame_s: seconds for a frame.
        overhead: of a request, in frames.
        frames, requests, refused: frames made, and requests answered and refused so far.
        stands_still_until: no response comes before this time.
        error: raised by every request.
    """

    def __init__(self, frame_s: float = 0.015, overhead: float = 1.0) -> None:
        self.frame_s, self.overhead = frame_s, overhead
        self.frames = self.requests = self.refused = 0
        self.stands_still_until = 0.0
        self.error: Exception | None = None
        self._turn = asyncio.Lock()

    async def config(self, model: str) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        return {"name": model}

    async def infer(self, request: Request, timeout_s: float) -> Tensor:  # noqa: ARG002
        if self.error is not None:
            await asyncio.sleep(0.001)
            raise self.error
        numbers = {k: int(v[0]) for k, v in request.inputs.items() if k != "AUDIO"}
        audio, count = request.inputs["AUDIO"], numbers["FRAME_COUNT"]
        # A request that is cancelled before its turn, or whose time is over then, costs nothing.
        try:
            await asyncio.wait_for(self._turn.acquire(), request.queue_s)
        except (asyncio.TimeoutError, TimeoutError) as e:
            self.refused += 1
            raise QueueTimeout("Request timeout expired") from e
        work = asyncio.create_task(self._work(count))
        work.add_done_callback(lambda _: self._turn.release())
        await asyncio.shield(work)  # and one that is cancelled later occupies the server to its end
        units = np.empty((count, 1), object)
        for n in range(count):
            number = numbers["FRAME_START"] + n
            begin, end = protocol.sample_range(protocol.LIVE, number, 1)
            first = begin - numbers["AUDIO_START"]
            assert first >= 0
            assert first + end - begin <= len(audio), "the slice does not cover its frames"
            units[n, 0] = image(
                (number + numbers["LOOP_OFFSET"]) % PERIOD, audio[first:][: end - begin]
            )
        return units

    async def _work(self, count: int) -> None:
        """Occupy the server for the time that a request takes."""
        self.requests += 1
        self.frames += count
        await asyncio.sleep((self.overhead + count) * self.frame_s)
        await asyncio.sleep(max(0.0, self.stands_still_until - asyncio.get_running_loop().time()))


def image(loop_index: int, audio: NDArray[Any]) -> bytes:
    """Return what stands for the frame at a place in the loop with the audio around it."""
    place = (loop_index + 1) % PERIOD  # docs/contract.md: the loop turns at its ends
    samples = np.asarray(audio, np.float32) + np.float32(0)  # one kind of zero
    return bytes([min(place, PERIOD - place)]) + samples.tobytes()


def expected(frames: list[LiveFrame], number: int, seam: Seam | None = None) -> bytes:
    """Return the image that an offline render of a session's audio has at a place.

    Args:
        frames: of the session, whose audio is mono at 16 kHz.
        number: of the frame.
        seam: the frame was made for its audio.
    """
    begin, end = protocol.sample_range(protocol.LIVE, number + LEAD, 1)
    first, until = max(0, number - LEAD), len(frames) if seam is None else seam.end
    parts = [np.zeros(640 * LEAD, np.float32), *(f.audio[:, 0] for f in frames[first:until])]
    if seam is not None:
        parts.append(seam.tail)
    wave = np.concatenate(parts)[begin - 640 * first :][: end - begin]
    return image(frames[number].loop_index, np.pad(wave, (0, end - begin - len(wave))))


Act = Callable[[LiveSession, list[LiveFrame]], Coroutine[Any, Any, None]]


class Simulation:
    """A session that was run, and what came of it.

    Attributes:
        frames: all frames.
        times: when each was given.
        events: of the replies.
        session: the session, closed.
        seams: of its audio.
    """

    def __init__(
        self,
        act: Act,
        server: SimulatedServer | None = None,
        live_options: LiveOptions | None = None,
        options: RenderOptions | None = None,
    ) -> None:
        self.server = server or SimulatedServer()
        self.frames: list[LiveFrame] = []
        self.times: list[float] = []
        self.events: list[LiveEvent] = []
        self._options = options or RenderOptions(output="JPEG")
        self._live_options = live_options or LiveOptions()
        self.session = virtual_time.run(self._run(act))

    async def _run(self, act: Act) -> LiveSession:
        pool = LivePool(self.server)
        loop = asyncio.get_running_loop()
        async with LiveSession(
            pool, AVATAR, self._options, self._live_options, self.events.append
        ) as session:
            self.seams = Seams(session._audio)
            acting = asyncio.create_task(act(session, self.frames))
            async for frame in session:
                self.frames.append(frame)
                self.times.append(loop.time())
            await acting
        return session


def assert_exact(run: Simulation) -> None:
    """Check that each frame is what an offline render of the audio that it was made for has at its place."""
    for frame in run.frames:
        n = frame.index
        if frame.video is None:
            continue
        seams = (None, *run.seams.of(n))
        assert any(frame.video == expected(run.frames, n, seam) for seam in seams), n
        if frame.idle:
            begin, end = protocol.sample_range(protocol.LIVE, n + LEAD, 1)
            assert frame.video == image(frame.loop_index, np.zeros(end - begin, np.float32)), n


def noise(seconds: float, seed: int = 0, rate: int = 16000) -> NDArray[np.float32]:
    """Return audio without a silent sample."""
    rng = np.random.default_rng(seed)
    wave: NDArray[Any] = rng.uniform(0.05, 0.2, round(seconds * rate))
    return np.asarray(wave * rng.choice([-1, 1], len(wave)), np.float32)


def with_pauses(wave: NDArray[Any], rate: int = 16000) -> NDArray[Any]:
    """Return audio with 0.3 s of silence in every 1.5 s."""
    time = np.arange(len(wave)) / rate % 1.5
    paused: NDArray[Any] = np.where(time > 1.2, 0, wave).astype(np.float32)
    return paused


async def paced(
    session: LiveSession, wave: NDArray[Any], *, speed: float = 1.0, block_s: float = 0.02
) -> None:
    """Feed audio at a multiple of the pace of speech."""
    loop = asyncio.get_running_loop()
    begun, size = loop.time(), round(block_s * session.options.rate)
    for n, at in enumerate(range(0, len(wave), size)):
        await asyncio.sleep(max(0.0, begun + n * block_s / speed - loop.time()))
        await session.feed(wave[at : at + size])


def at_pace(seconds: float = 10.0, speed: float = 1.0) -> Act:
    """Return what feeds speech with pauses at a multiple of its pace, a second after the beginning."""

    async def act(session: LiveSession, _: list[LiveFrame]) -> None:
        await asyncio.sleep(1.013)
        await paced(session, with_pauses(noise(seconds)), speed=speed)
        session.finish()

    return act


def audio_of(frames: list[LiveFrame]) -> NDArray[np.float32]:
    return np.concatenate([frame.audio[:, 0] for frame in frames])
