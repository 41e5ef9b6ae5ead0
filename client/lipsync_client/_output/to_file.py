"""A render that ends as a file."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from .. import protocol as timeline
from .._audio import ClipWindow
from .._avatar import Avatar
from .._errors import InputError
from .._render import RenderOptions, render
from .._transports.replicas import Replicas
from .._transports.response_cache import ResponseCache
from .files import refuse_existing
from .formats import STDOUT, OutputFormat
from .writers import opened, request_options

Progress = Callable[[int, int | None], None]  # frames done, frames expected (None: not known)


@dataclass(frozen=True)
class RenderSummary:
    """What a render came to.

    Attributes:
        output: the file or directory.
        frames: video frames.
        seconds: it took, from the first byte read to the finished file.
        first_frame_s: until the first frames were there.
    """

    output: Path
    frames: int
    seconds: float
    first_frame_s: float

    @property
    def fps(self) -> float:
        """Frames a second."""
        return self.frames / self.seconds

    @property
    def realtime_factor(self) -> float:
        """Seconds of video made a second."""
        return self.fps / timeline.FPS


def check_target(
    path: Path, form: OutputFormat, plan: RenderOptions, *, force: bool, resume: bool
) -> None:
    """Refuse what cannot end well, before a server is asked.

    Raises:
        InputError: the form does not go with the path or the options, or the file is there already.
    """
    form.check(path, plan.encoder_options.keys() & {"crf", "preset", "keyint"})
    if path != STDOUT:
        refuse_existing(path, force)
    elif resume:
        raise InputError("what goes to standard output cannot be resumed: write to a file")


async def render_to_file(
    transport: Replicas,
    about: Avatar,
    audio: str | Path,
    path: Path,
    form: OutputFormat,
    plan: RenderOptions,
    *,
    resume: bool,
    progress: Progress | None,
) -> RenderSummary:
    """Render to a target that `check_target` let pass; as `AsyncLipSyncClient.render_to_file`."""
    begun, first, done = time.monotonic(), 0.0, 0
    options = request_options(form, plan.encoder_options)
    asked = replace(plan, output=form.kind.asks, encoder_options=options)
    kept = ResponseCache(transport, path.with_name(f".{path.name}.chunks")) if resume else None
    with kept or nullcontext(), opened(audio, path, form, plan.encoder_options) as output_file:
        estimate = output_file.source.estimated_samples
        expected = None if estimate is None else timeline.frame_count(estimate)
        clip = ClipWindow(output_file.source.blocks())
        chunks = render(kept or transport, about, clip, asked)
        async with aclosing(chunks):
            async for chunk in chunks:
                first = first or time.monotonic() - begun
                await output_file.pictures(chunk.frames)
                done += len(chunk.frames)
                if progress is not None:
                    progress(done, expected)
        await output_file.close()
    if kept is not None:
        kept.remove()
    return RenderSummary(path, done, time.monotonic() - begun, first)
