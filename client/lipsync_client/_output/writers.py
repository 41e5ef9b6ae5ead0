"""From an output format to its writer, together with the open clip."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import av
import numpy as np
from numpy.typing import NDArray

from .._audio import AudioFile
from .._render import RenderOptions
from .audio_track import audio_track_for
from .copied_audio import CopiedAudio
from .files import open_output_path
from .formats import RAW, OutputFormat
from .frames import FrameWriter, RawWriter
from .h264 import H264Video
from .muxer import Muxer
from .pipe import Pipe
from .preview import PreviewWriter
from .tracks import AudioTrack, VideoTrack
from .vp9 import Vp9Video


class Writer(Protocol):
    """A destination of the frames of a render."""

    def write(self, frames: NDArray[np.generic]) -> None:
        """Write frames in the form in which the server sent them, in order."""

    def close(self) -> None:
        """Finish the result."""

    def abort(self) -> None:
        """Release a result that will be deleted."""


class ClipOutput:
    """A clip and the writer of its frames.

    The writer works in a thread, so that a slow disk or a slow reader delays no request.

    Attributes:
        source: the clip.
    """

    def __init__(self, source: AudioFile, writer: Writer, pipe: Pipe | None) -> None:
        self.source = source
        self._writer, self._pipe = writer, pipe

    async def write(self, frames: NDArray[np.generic]) -> None:
        """Write frames in the form in which the server sent them, in order."""
        await self._in_thread(lambda: self._writer.write(frames))

    async def close(self) -> None:
        """Finish the result after the last frame."""
        await self._in_thread(self._writer.close)

    async def _in_thread(self, work: Callable[[], None]) -> None:
        task = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._pipe is not None:
                self._pipe.stop()
            # The file may not be touched while the thread uses it. The thread's own error no longer matters.
            await asyncio.gather(task, return_exceptions=True)
            raise


@contextmanager
def open_output(
    audio: str | Path,
    path: Path,
    output_format: OutputFormat,
    options: RenderOptions,
    *,
    force: bool,
) -> Iterator[ClipOutput]:
    """Open a clip and the writer of its frames; the result appears if the block ends without an exception.

    Args:
        audio: the clip.
        path: the file, folder or pipe; "-" is standard output.
        output_format: the format of the result.
        options: how to read the clip, and how to encode what the client encodes.
        force: replace an earlier result.
    """
    with (
        open_output_path(path, folder=output_format.is_folder, force=force) as target,
        _open_writer(audio, target, output_format, options) as output,
    ):
        yield output


@contextmanager
def _open_writer(
    audio: str | Path,
    target: Path | Pipe,
    output_format: OutputFormat,
    options: RenderOptions,
) -> Iterator[ClipOutput]:
    track: AudioTrack | None = None

    def add_to_track(frame: av.AudioFrame) -> None:
        if track is not None:
            track.add_frame(frame)

    with ExitStack() as stack:
        # check_render has decoded the clip if `strict`.
        source = AudioFile(audio, track=options.audio_track, on_frame=add_to_track)
        stack.callback(source.close)
        if output_format.spec.audio_encoder:
            track = audio_track_for(output_format, source)
            if isinstance(track, CopiedAudio):
                stack.callback(track.close)
            encodes = output_format.spec.server_output == "FRAMES"
            video: VideoTrack = Vp9Video(options.encoder_options) if encodes else H264Video()
            writer: Writer = Muxer(target, output_format.spec, video, track)
        elif output_format.name in RAW:
            writer = RawWriter(target, output_format.name)
        else:
            assert isinstance(target, Path)  # check_render refused the other formats for a pipe
            if output_format.is_folder:
                writer = FrameWriter(target, output_format.name)
            else:
                writer = PreviewWriter(target, output_format)
        try:
            yield ClipOutput(source, writer, target if isinstance(target, Pipe) else None)
        except BaseException:
            if isinstance(target, Pipe):
                target.stop()  # the end of a container may not wait for a reader that hangs
            writer.abort()
            raise
