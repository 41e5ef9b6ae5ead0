"""A render whose result is a file, a folder or a pipe."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import aclosing, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from .. import protocol
from .._audio import AudioFile, ClipWindow
from .._audio.track import is_fifo
from .._avatar import Avatar
from .._render import RenderOptions, render
from .._transports.replicas import Replicas
from .._transports.response_cache import ResponseCache
from .audio_track import check_copy
from .files import check_output_path, is_pipe
from .formats import STDOUT, FormatError, OutputFormat
from .writers import open_output

Progress = Callable[[int, int | None], None]  # frames done, frames expected (None: unknown)
_LONGEST_NAME = 255  # bytes of a file name on the usual file systems


@dataclass(frozen=True)
class RenderSummary:
    """The figures of a finished render.

    Attributes:
        output: the file or folder.
        frames: number of video frames.
        seconds: duration of the render, from the first byte read to the finished file.
        first_frame_s: time until the first frames came, in seconds.
        warnings: the parts of the clip that could not be decoded.
    """

    output: Path
    frames: int
    seconds: float
    first_frame_s: float
    warnings: tuple[str, ...] = ()

    @property
    def fps(self) -> float:
        """Frames rendered per second."""
        return self.frames / self.seconds

    @property
    def realtime_factor(self) -> float:
        """Seconds of video rendered per second."""
        return self.fps / protocol.FPS


def check_render(
    audio: str | Path,
    path: Path,
    output_format: OutputFormat,
    options: RenderOptions,
    *,
    force: bool,
    resume: bool,
) -> None:
    """Refuse a render that cannot succeed, before a server is asked; arguments as for render_to_file.

    Raises:
        FormatError: the output format does not go with the path, the audio or the options.
        InputError: the audio cannot be read.
        OutputError: the output cannot be written, or exists.
    """
    server_output = output_format.spec.server_output
    if options.output not in (None, server_output):
        raise FormatError(
            f"{output_format.name} is made from {server_output}, and the options ask for"
            f" {options.output}: leave `output` out"
        )
    output_format.check_encoder_options(options.encoder_options)
    if is_pipe(path):
        name = "standard output" if path == STDOUT else f"the pipe or device {path}"
        output_format.check_pipeable(name)
        if resume:
            raise FormatError(f"a render to {name} cannot be resumed: write to a file")
    else:
        check_output_path(path, folder=output_format.is_folder, force=force)
    if options.strict or not is_fifo(Path(audio)):
        with closing(AudioFile(audio, track=options.audio_track, strict=options.strict)) as source:
            check_copy(output_format, source)


async def render_to_file(
    backend: Replicas,
    avatar: Avatar,
    audio: str | Path,
    path: Path,
    output_format: OutputFormat,
    options: RenderOptions,
    *,
    force: bool,
    resume: bool,
    progress: Progress | None,
) -> RenderSummary:
    """Render after `check_render`; the arguments are those of `AsyncLipSyncClient.render_to_file`."""
    begun, first, done = time.monotonic(), 0.0, 0
    spec = output_format.spec
    # The client encodes the formats that are made from raw frames.
    encoder_options = {} if spec.server_output == "FRAMES" else options.encoder_options
    request_options = replace(options, output=spec.server_output, encoder_options=encoder_options)
    cache = ResponseCache(backend, _chunk_folder(path)) if resume else None
    with cache or nullcontext():
        with open_output(audio, path, output_format, options, force=force) as output:
            estimate = output.source.estimated_samples
            expected = None if estimate is None else protocol.frame_count(estimate)
            clip = ClipWindow(output.source.blocks())
            chunks = render(cache or backend, avatar, clip, request_options)
            async with aclosing(chunks):
                async for chunk in chunks:
                    first = first or time.monotonic() - begun
                    await output.write(chunk.frames)
                    done += len(chunk.frames)
                    if progress is not None:
                        progress(done, expected)
            await output.close()
            warnings = tuple(output.source.warnings)
        if cache is not None:
            cache.remove()
    return RenderSummary(path, done, time.monotonic() - begun, first, warnings)


def _chunk_folder(path: Path) -> Path:
    """Return the hidden folder beside a result that keeps its chunks for --resume."""
    target = Path(os.path.realpath(path))
    name = f".{target.name}.chunks"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()}.chunks"
    return target.with_name(name)
