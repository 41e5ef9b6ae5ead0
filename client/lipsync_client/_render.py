"""The core: cut a clip into slices, keep several on their way, and give the frames back in order."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from . import protocol as timeline
from ._audio import ClipWindow
from ._avatar import Avatar
from ._errors import InputError, ServerTimeout
from ._transports.triton import Backend, Parameters, Request, Transport

FIRST_CHUNK = 8  # frames: the first picture should not wait for a whole chunk


@dataclass(frozen=True)
class RenderOptions:
    """How a clip is rendered.

    Attributes:
        output: FRAMES, JPEG or H264.
        chunk: frames a request; None for the most the server takes.
        in_flight: requests under way at once, which bounds the memory; None for 3, and 2 more for each
            further server.
        loop_offset: frame of the avatar's own motion to begin with.
        timeout_s: longest wait for one request, tries at other servers included.
        total_timeout_s: longest time for the whole clip; None for no limit.
        encoder_options: the server's encoder options (crf, preset, jpeg_quality).
    """

    output: str = "H264"
    chunk: int | None = None
    in_flight: int | None = None
    loop_offset: int = 0
    timeout_s: float = 120.0
    total_timeout_s: float | None = None
    encoder_options: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class Chunk:
    """Frames start … start + len(frames) - 1.

    `frames` is uint8 (n, H, W, 3) BGR for FRAMES, else an object array of n encoded frames (bytes).
    """

    start: int
    frames: NDArray[Any]


class RenderBackend(Backend, Protocol):
    """What a render needs of a server, or of several as one."""

    transports: list[Transport]


async def render(
    transport: RenderBackend, avatar: Avatar, clip: ClipWindow, options: RenderOptions
) -> AsyncIterator[Chunk]:
    """Chunks of a clip in order.

    Raises:
        LipSyncError: of the reading or of any request; the others are given up.
    """
    size = avatar.max_frames if options.chunk is None else options.chunk
    if not 1 <= size <= avatar.max_frames:
        raise InputError(
            f"a chunk must be 1 to {avatar.max_frames} frames, the server's limit; got {size}"
        )
    in_flight = options.in_flight or 1 + 2 * len(transport.transports)
    deadline = (
        math.inf if options.total_timeout_s is None else time.monotonic() + options.total_timeout_s
    )
    pending: deque[asyncio.Task[Chunk]] = deque()
    at, count, ended = 0, min(size, FIRST_CHUNK), False
    try:
        while True:
            while not ended and len(pending) < in_flight:
                clip.read_to(timeline.live_end(at + count - 1))
                if clip.total is not None:
                    count = min(count, timeline.frame_count(clip.total) - at)
                    if count <= 0:
                        ended = True
                        break
                request = _ask(transport, avatar, clip, options, at, count)
                pending.append(asyncio.create_task(request))
                await asyncio.sleep(0)  # let it go out before the next is cut
                at, count = at + count, size
            if not pending:
                return
            yield await _within(pending.popleft(), deadline, options)
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


async def _within(task: asyncio.Task[Chunk], deadline: float, options: RenderOptions) -> Chunk:
    """The task's chunk, unless the time for the whole clip is over first."""
    remaining = deadline - time.monotonic()
    if math.isinf(remaining):
        return await task
    try:
        return await asyncio.wait_for(task, max(0.0, remaining))
    except (asyncio.TimeoutError, TimeoutError) as e:
        raise ServerTimeout(f"the clip was not done within {options.total_timeout_s:g} s") from e


def _ask(
    transport: RenderBackend,
    avatar: Avatar,
    clip: ClipWindow,
    options: RenderOptions,
    start: int,
    count: int,
) -> Any:
    """The request for one chunk, with its slice cut now."""
    samples = timeline.LIVE if clip.total is None else clip.total
    begin, end = timeline.sample_range(samples, start, count)
    asked = request_for(
        avatar, options, clip.slice(begin, end), begin, samples, start, count, options.loop_offset
    )

    async def ask() -> Chunk:
        return Chunk(start, pictures(options, await transport.infer(asked, options.timeout_s)))

    return ask()


def request_for(
    avatar: Avatar,
    options: RenderOptions,
    audio: NDArray[np.float32],
    begin: int,
    samples: int,
    start: int,
    count: int,
    loop_offset: int,
) -> Request:
    """What asks for some frames of a clip.

    Args:
        avatar, options: as for a render.
        audio: samples of the clip from `begin` on.
        begin: sample.
        samples: length of the clip, or timeline.LIVE.
        start, count: frames of the clip.
        loop_offset: added to a frame's number for its place in the avatar's motion.
    """
    numbers = {
        "AUDIO_START": begin,
        "CLIP_SAMPLES": samples,
        "FRAME_START": start,
        "FRAME_COUNT": count,
        "LOOP_OFFSET": loop_offset,
    }
    inputs = {name: np.array([value], np.int64) for name, value in numbers.items()}
    return Request(
        avatar.name,
        {"AUDIO": np.ascontiguousarray(audio), **inputs},
        options.output,
        options.encoder_options,
    )


def pictures(options: RenderOptions, answer: NDArray[Any]) -> NDArray[Any]:
    """An answer as Chunk.frames has it."""
    return answer if options.output == "FRAMES" else answer[:, 0]
