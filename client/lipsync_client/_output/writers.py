"""From a form to the writer of it, with the clip open beside."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from .._audio import AudioFile
from .audio_track import CopiedSound, Sound, check_copy, sound_for
from .files import written_aside
from .formats import RAW, STDOUT, FormatError, OutputFormat
from .frames import FrameWriter, RawWriter
from .muxer import H264Units, Muxer, Video
from .pipe import Pipe
from .preview import PreviewWriter
from .vp9 import Vp9

T = TypeVar("T")


class Writer(Protocol):
    """Where the frames of a render go."""

    def pictures(self, frames: Any) -> None:
        """Add frames as the server gave them, in order."""

    def close(self) -> None:
        """Finish."""

    def abort(self) -> None:
        """Let go; the result will be thrown away."""


class Output:
    """A clip being written: frames go in, in a thread, so that a slow disk or reader holds up no request.

    Attributes:
        source: the clip.
    """

    def __init__(self, source: AudioFile, writer: Writer, pipe: Pipe | None) -> None:
        self.source = source
        self._writer, self._pipe = writer, pipe

    async def pictures(self, frames: Any) -> None:
        """Add frames as the server gave them, in order."""
        await self._apart(lambda: self._writer.pictures(frames))

    async def close(self) -> None:
        """Finish, when all frames are in."""
        await self._apart(self._writer.close)

    async def _apart(self, work: Callable[[], T]) -> T:
        task = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._pipe is not None:
                self._pipe.stop()
            # Nobody may touch the file while the thread does; what it still says is of no account.
            await asyncio.gather(task, return_exceptions=True)
            raise


def request_options(form: OutputFormat, options: Mapping[str, Any]) -> dict[str, Any]:
    """The encoder options that are the server's; WebM is encoded here."""
    return {} if form.name == "webm" else dict(options)


@contextmanager
def opened(
    audio: str | Path, path: Path, form: OutputFormat, options: Mapping[str, Any]
) -> Iterator[Output]:
    """The open clip, and what its frames go to; a file appears if the block ends well.

    Args:
        audio: the clip.
        path: the file or folder, or "-".
        form: what to write.
        options: crf and keyint of what is encoded here.
    """
    if path == STDOUT:
        pipe = Pipe(sys.stdout.fileno())
        with _writing(audio, pipe, form, options) as output:
            yield output
        return
    with (
        written_aside(path, directory=form.folder) as aside,
        _writing(audio, aside, form, options) as output,
    ):
        yield output


@contextmanager
def _writing(
    audio: str | Path, target: Path | Pipe, form: OutputFormat, options: Mapping[str, Any]
) -> Iterator[Output]:
    sound: Sound | None = None

    def heard(frame: Any) -> None:
        if sound is not None:
            sound.frame(frame)

    with ExitStack() as stack:
        source = AudioFile(audio, on_frame=heard)
        stack.callback(source.close)
        if form.kind.encodes:
            sound = sound_for(form, Path(audio), source.codec, source.sample_rate, source.layout)
            if isinstance(sound, CopiedSound):
                stack.callback(sound.close)
            video: Video = Vp9(options) if form.name == "webm" else H264Units()
            writer: Writer = Muxer(target, form.kind, video, sound)
        elif form.name in RAW:
            writer = RawWriter(target, form.name)
        elif isinstance(target, Pipe):
            raise FormatError(f"{form.name} cannot be written to a pipe")
        elif form.folder:
            writer = FrameWriter(target, form.name)
        else:
            writer = PreviewWriter(target, form)
        try:
            yield Output(source, writer, target if isinstance(target, Pipe) else None)
        except BaseException:
            writer.abort()
            raise


def check_sound(audio: Path, form: OutputFormat) -> None:
    """Refuse early to copy sound that the container cannot hold.

    Raises:
        FormatError: names the codecs that it holds.
        InputError: the clip cannot be read.
    """
    if form.audio == "copy":
        with closing(AudioFile(audio)) as source:
            check_copy(form, audio, source.codec)
