"""A whole clip in one call of the server's `stream` model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import numpy as np

from . import protocol as timeline
from ._audio import AudioFile, Samples
from ._avatar import Avatar
from ._errors import InputError, ServerLost, ServerTimeout
from ._render import Chunk, RenderOptions, pictures
from ._transports.replicas import Replicas
from ._transports.triton import Answer, Request, Tensor

MODEL = "stream"
_MOST_SAMPLES = 2**29 - 2**18  # gRPC's 2 GiB, and room for the rest of the request


async def stream(
    transport: Replicas, avatar: Avatar, audio: str | Path, options: RenderOptions
) -> AsyncIterator[Chunk]:
    """Chunks of a clip in order, as the server cuts them.

    Raises:
        LipSyncError: of the reading or of the call; the server is told to stop.
    """
    begun = time.monotonic()
    samples = await asyncio.to_thread(_whole, audio)
    inputs: dict[str, Tensor] = {
        "AUDIO": samples,
        "AVATAR": np.array([avatar.name], object),
        "OUTPUT": np.array([options.output], object),
        "LOOP_OFFSET": np.array([options.loop_offset], np.int64),
    }
    answers = transport.stream(
        Request(MODEL, inputs, options.output, options.encoder_options), options.timeout_s
    )
    at, expected = 0, timeline.frame_count(samples.size)
    async with aclosing(answers):  # type: ignore[type-var]
        while (answer := await _before(begun, options.total_timeout_s, answers)) is not None:
            start, frames = answer
            if start != at:
                raise ServerLost(f"{transport.url}: expected frame {at} of the clip, got {start}")
            at += len(frames)
            yield Chunk(start, pictures(options, frames))
    if at != expected:
        raise ServerLost(f"{transport.url}: the clip has {expected} frames, but only {at} came")


async def _before(
    begun: float, limit_s: float | None, answers: AsyncIterator[Answer]
) -> Answer | None:
    """The next answer, None after the last; unless the time for the whole clip is over first."""
    if limit_s is None:
        return await anext(answers, None)
    try:
        left = max(0.0, begun + limit_s - time.monotonic())
        return await asyncio.wait_for(_next(answers), left)
    except (asyncio.TimeoutError, TimeoutError) as e:
        raise ServerTimeout(f"the clip was not done within {limit_s:g} s") from e


async def _next(answers: AsyncIterator[Answer]) -> Answer | None:
    return await anext(answers, None)


def _whole(audio: str | Path) -> Samples:
    """All samples of a file."""
    source = AudioFile(audio)
    try:
        samples: Samples = np.concatenate([np.zeros(0, np.float32), *source.blocks()])
    finally:
        source.close()
    if samples.size > _MOST_SAMPLES:
        hours = samples.size / timeline.SAMPLE_RATE / 3600
        raise InputError(
            f"{audio}: {hours:.1f} hours of sound do not fit into one call; `render` takes any length"
        )
    return samples
