"""Rendering a clip: cut it into slices, keep several requests in flight, return the frames in order."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from . import protocol
from ._audio import ClipWindow
from ._avatar import Avatar
from ._errors import InputError, ServerTimeout
from ._timeout import within
from ._transports.request import Backend, Output, Parameter, Parameters, Request, Tensor, Transport

FIRST_CHUNK = 8  # frames: the first frames should not wait for a whole chunk
_DEFAULT_OUTPUT: Output = "H264"


@dataclass(frozen=True)
class RenderOptions:
    """The options of a render.

    Attributes:
        output: "FRAMES" (BGR), "I420", "JPEG" or "H264"; None for H264, or for what an output file needs.
        chunk: frames per request; None for the most that the server allows, of raw frames at most 128 MiB.
        in_flight: requests in flight at once, which bounds the memory; None for 3, and 2 more for each
            further server.
        loop_offset: place in the avatar's loop to begin at, in frames.
        timeout_s: longest wait for one request, tries at other servers included.
        total_timeout_s: longest time for the whole clip; None for no limit.
        encoder_options: of the server: crf, preset, keyint, jpeg_quality; copied, and read-only from then on.
        audio_track: number of the clip's audio track, from 1; None for the one that is marked as default, or
            the first.
        strict: refuse a clip of which a part cannot be decoded, instead of putting silence there.

    Raises:
        InputError: an option is out of range.
    """

    output: Output | None = None
    chunk: int | None = None
    in_flight: int | None = None
    loop_offset: int = 0
    timeout_s: float = 120.0
    total_timeout_s: float | None = None
    encoder_options: Mapping[str, Parameter] = field(default_factory=Parameters)
    audio_track: int | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "encoder_options", Parameters(self.encoder_options))
        outputs = get_args(Output)
        if self.output is not None and self.output not in outputs:
            raise InputError(f"output must be one of {', '.join(outputs)}, got {self.output!r}")
        for name in ("chunk", "in_flight", "audio_track"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise InputError(f"{name} must be 1 or more, got {number}")
        for name in ("timeout_s", "total_timeout_s"):
            seconds = getattr(self, name)
            if seconds is not None and not 0 < seconds < math.inf:
                raise InputError(f"{name} must be a number of seconds above 0, got {seconds}")

    @property
    def requested_output(self) -> Output:
        """The output that requests ask for."""
        return self.output or _DEFAULT_OUTPUT


@dataclass(frozen=True)
class Chunk:
    """Consecutive frames of a clip.

    Attributes:
        start: number of the first one, from 0.
        frames: uint8 (n, H, W, 3) BGR for FRAMES, uint8 (n, H * 3 / 2, W) for I420, else n encoded frames
            (bytes, object array).
    """

    start: int
    frames: Tensor


class RenderBackend(Backend, Protocol):
    """A backend that knows how many servers it stands for."""

    transports: list[Transport]


async def render(
    backend: RenderBackend, avatar: Avatar, clip: ClipWindow, options: RenderOptions
) -> AsyncGenerator[Chunk, None]:
    """Yield the chunks of a clip in order.

    Raises:
        LipSyncError: the clip cannot be read, or a request failed; the other requests are cancelled.
    """
    size = options.chunk or avatar.chunk_size(options.requested_output)
    if size > avatar.max_frames:
        raise InputError(
            f"a chunk must be 1 to {avatar.max_frames} frames, the server's limit; got {size}"
        )
    in_flight = options.in_flight or 1 + 2 * len(backend.transports)
    limit_s = math.inf if options.total_timeout_s is None else options.total_timeout_s
    deadline = time.monotonic() + limit_s
    pending: deque[asyncio.Task[Chunk]] = deque()
    start, count, ended = 0, min(size, FIRST_CHUNK), False
    try:
        while True:
            while not ended and len(pending) < in_flight:
                clip.read_to(protocol.live_end(start + count - 1))
                if clip.total is not None:
                    count = min(count, protocol.frame_count(clip.total) - start)
                    if count <= 0:
                        ended = True
                        break
                chunk = _request(backend, avatar, clip, options, start, count)
                pending.append(asyncio.create_task(chunk))
                await asyncio.sleep(0)  # send it before the next slice is cut
                start, count = start + count, size
            if not pending:
                return
            yield await _before(pending.popleft(), deadline, options)
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


async def _before(task: asyncio.Task[Chunk], deadline: float, options: RenderOptions) -> Chunk:
    """Return the task's chunk, unless the time for the whole clip is over first."""
    remaining = deadline - time.monotonic()
    if math.isinf(remaining):
        return await task
    try:
        return await within(task, max(0.0, remaining))
    except (asyncio.TimeoutError, TimeoutError) as e:
        raise ServerTimeout(f"the clip was not done within {options.total_timeout_s:g} s") from e


def _request(
    backend: RenderBackend,
    avatar: Avatar,
    clip: ClipWindow,
    options: RenderOptions,
    start: int,
    count: int,
) -> Coroutine[None, None, Chunk]:
    """Return the request for one chunk; its slice is cut now."""
    samples = protocol.LIVE if clip.total is None else clip.total
    begin, end = protocol.sample_range(samples, start, count)
    request = request_for(
        avatar, options, clip.slice(begin, end), begin, samples, start, count, options.loop_offset
    )

    async def ask() -> Chunk:
        return Chunk(start, frames_of(await backend.infer(request, options.timeout_s)))

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
    """Return the request for some frames of a clip.

    Args:
        avatar: that speaks.
        options: the output and the encoder options count.
        audio: samples of the clip from `begin` on.
        begin: index of the first of them in the clip.
        samples: length of the clip, or protocol.LIVE.
        start, count: frames of the clip.
        loop_offset: added to a frame's number to get its place in the avatar's loop.
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
        options.requested_output,
        options.encoder_options,
    )


def frames_of(response: Tensor) -> Tensor:
    """Return a response as Chunk.frames holds it: encoded frames come as (n, 1) and leave as (n,)."""
    return response[:, 0] if response.dtype == object else response
