"""Audio from standard input or a FIFO, kept in a temporary file."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from .._audio.track import is_fifo
from .._errors import InputError


@contextmanager
def as_file(audio: Path) -> Iterator[Path]:
    """Yield the path of a file with the audio: `audio` itself, or a copy of what comes from a pipe.

    A clip is read more than once, and many formats are only readable in a file.

    Args:
        audio: a path; "-" is standard input.

    Raises:
        click.UsageError: standard input is a terminal.
        InputError: the pipe cannot be read, or the temporary directory has no room.
    """
    stdin = audio == Path("-")
    if not stdin and not is_fifo(audio):
        yield audio
        return
    if stdin and sys.stdin.isatty():
        raise click.UsageError("standard input is a terminal: pipe the audio in, or name a file")
    name = "standard input" if stdin else str(audio)
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="lipsync-"))
            copy = Path(folder) / "stdin"
            with copy.open("wb") as file:
                source = sys.stdin.buffer if stdin else stack.enter_context(audio.open("rb"))
                shutil.copyfileobj(source, file)
        except OSError as e:
            raise InputError(
                f"{name} cannot be copied to a temporary file: {e.strerror or e}. Set TMPDIR to a"
                " directory with room for it"
            ) from e
        if copy.stat().st_size == 0:
            raise InputError(f"{name}: expected an audio or video file, got nothing")
        yield copy
