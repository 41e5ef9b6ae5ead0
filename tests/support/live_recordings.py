"""Live sessions that tests feed, their frames, and what an offline render gives at their places."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lipsync_client import (
    AsyncLipSyncClient,
    LiveEvent,
    LiveFrame,
    LiveOptions,
    LiveSession,
    RenderOptions,
)
from lipsync_embedded import Server
from support.triton_calls import Triton

LEAD = 16  # frames of silence before the session's own beginning


RAW = RenderOptions(output="FRAMES")


PERIOD = 18  # frames of a time round the loop of the toy avatar, which has ten


# However slow the machine, frames and audio wait for the server, and no frame is left out.
CALM = LiveOptions(margin_s=0.6, stall_s=1000.0, reconnect_timeout_s=60.0)


Act = Callable[[LiveSession, list[LiveFrame]], Coroutine[Any, Any, None]]


async def blocks(wave: NDArray[Any], rate: int = 16000) -> AsyncIterator[NDArray[Any]]:
    """Yield audio at the pace of speech, 20 ms at a time."""
    size, begun = rate // 50, time.monotonic()
    for n, at in enumerate(range(0, len(wave), size)):
        await asyncio.sleep(max(0.0, begun + n / 50 - time.monotonic()))
        yield wave[at : at + size]


def session_of(
    server: Server,
    act: Act,
    live_options: LiveOptions = CALM,
    options: RenderOptions = RAW,
    on_event: Callable[[LiveEvent], object] | None = None,
) -> tuple[list[LiveFrame], LiveSession]:
    """Return all frames of a session that `act` feeds."""

    async def run() -> tuple[list[LiveFrame], LiveSession]:
        frames: list[LiveFrame] = []
        async with (
            AsyncLipSyncClient(server.grpc_url) as client,
            client.live("toy", options, live_options, on_event=on_event) as session,
        ):
            acting = asyncio.create_task(act(session, frames))
            await collect(session, frames)
            await acting
        return frames, session

    return asyncio.run(run())


async def collect(session: LiveSession, frames: list[LiveFrame]) -> None:
    """Add the frames of a session to a list."""
    async for frame in session:
        frames.append(frame)


async def until(frames: list[LiveFrame], count: int) -> None:
    """Wait until so many frames have come."""
    while len(frames) < count:
        await asyncio.sleep(0.005)


def reference(server: Server, wave: NDArray[Any], loop_index: int = 0) -> NDArray[Any]:
    """Return the frames of the same clip rendered offline, with silence before and after it."""
    whole = np.concatenate([np.zeros(LEAD * 640), wave, np.zeros(16000)]).astype(np.float32)
    count, triton = len(wave) // 640, Triton(server, "grpc")
    parts = [
        triton.frames(
            "toy", whole, first=LEAD + at, count=min(32, count - at), loop_offset=loop_index - LEAD
        )
        for at in range(0, count, 32)
    ]
    return np.concatenate(parts)


def heard(frames: list[LiveFrame]) -> NDArray[np.float32]:
    """Return the audio of frames, mono."""
    return np.concatenate([f.audio[:, 0] for f in frames])


def assert_exact(server: Server, frames: list[LiveFrame], until: int | None = None) -> None:
    """Check that each frame is what an offline render of the session's audio has at its place.

    Idle frames are those of silence: they were given before anybody knew of the audio that followed.

    Args:
        until: number of a frame; those after it were given when other audio was expected.
    """
    speaking = reference(server, heard(frames))
    idle = reference(server, np.zeros(640 * PERIOD))
    assert [f.index for f in frames] == list(range(len(frames)))
    for frame in frames[:until]:
        assert frame.loop_index == frame.index % PERIOD
        if frame.video is not None:
            expected = idle[frame.loop_index] if frame.idle else speaking[frame.index]
            assert np.array_equal(frame.video, expected), frame.index
