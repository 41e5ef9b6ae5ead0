"""A whole clip in one call of the server's `stream` model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import numpy as np

from . import protocol
from ._audio import AudioFile, Samples
from ._avatar import Avatar
from ._errors import InputError, ServerLost, ServerTimeout
from ._render import Chunk, RenderOptions, frames_of
from ._timeout import within
from ._transports.replicas import Replicas
from ._transports.request import Request, StreamResponse, Tensor

MODEL = "stream"
_MOST_SAMPLES = 2**29 - 2**18  # gRPC's 2 GiB, and room for the rest of the request


async def stream(
    backend: Replicas, avatar: Avatar, audio: str | Path, options: RenderOptions
) -> AsyncGenerator[Chunk, None]:
    """Yield the chunks of a clip in order, as the server cuts them.

    Raises:
        LipSyncError: the clip cannot be read, or the call failed; the server stops its work.
    """
    begun = time.monotonic()
    samples = await asyncio.to_thread(_read_whole, audio, options)
    inputs: dict[str, Tensor] = {
        "AUDIO": samples,
        "AVATAR": np.array([avatar.name], object),
        "OUTPUT": np.array([options.requested_output], object),
        "LOOP_OFFSET": np.array([options.loop_offset], np.int64),
    }
    request = Request(MODEL, inputs, options.requested_output, options.encoder_options)
    responses = backend.stream(request, options.timeout_s)
    next_frame, expected = 0, protocol.frame_count(samples.size)
    async with aclosing(responses):
        while (response := await _before(begun, options.total_timeout_s, responses)) is not None:
            if response.start != next_frame:
                raise ServerLost(
                    f"{backend.url}: expected frame {next_frame} of the clip, got {response.start}"
                )
            next_frame += len(response.frames)
            yield Chunk(response.start, frames_of(response.frames))
    if next_frame != expected:
        raise ServerLost(
            f"{backend.url}: the clip has {expected} frames, but only {next_frame} came"
        )


async def _before(
    begun: float, limit_s: float | None, responses: AsyncGenerator[StreamResponse, None]
) -> StreamResponse | None:
    """Return the next response, or None after the last, unless the time for the whole clip is over first."""
    if limit_s is None:
        return await anext(responses, None)
    try:
        left = max(0.0, begun + limit_s - time.monotonic())
        return await within(_next(responses), left)
    except (asyncio.TimeoutError, TimeoutError) as e:
        raise ServerTimeout(f"the clip was not done within {limit_s:g} s") from e


async def _next(responses: AsyncGenerator[StreamResponse, None]) -> StreamResponse | None:
    return await anext(responses, None)


def _read_whole(audio: str | Path, options: RenderOptions) -> Samples:
    """Return all samples of a file."""
    source = AudioFile(audio, track=options.audio_track, strict=options.strict)
    try:
        samples: Samples = np.concatenate([np.zeros(0, np.float32), *source.blocks()])
    finally:
        source.close()
    if samples.size > _MOST_SAMPLES:
        hours = samples.size / protocol.SAMPLE_RATE / 3600
        raise InputError(
            f"{audio}: {hours:.1f} hours of audio do not fit into one call; `render` takes any length"
        )
    return samples
