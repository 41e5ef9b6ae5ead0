"""Options and output that the commands of lipsync-avatar share."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import click

from lipsync_preprocessing.errors import AvatarError, printable

if TYPE_CHECKING:
    from lipsync_preprocessing.avatar.materials import Report
    from lipsync_preprocessing.model_control import ModelControl

_Parameters = ParamSpec("_Parameters")
_Command = Callable[_Parameters, None]

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


def network_width(text: str) -> Fraction:
    """Return the width of a network, a part of the true size such as 1/2, of an option's text."""
    try:
        width = Fraction(text)
    except (ValueError, ZeroDivisionError):
        width = Fraction(0)
    if not Fraction(1, 16) <= width < 1 or 32 * width % 1:
        raise click.BadParameter(
            f"expected a part of the true size from 1/16 in steps of 1/32, such as 1/2, got {text!r}"
        )
    return width


def say(line: str, *, err: bool = False) -> None:
    """Print one line; control characters, which a file name may contain, are escaped."""
    click.echo(printable(line), err=err)


def errors_in_one_line(command: _Command[_Parameters]) -> _Command[_Parameters]:
    """Print an AvatarError, or a package that is missing, as one line on standard error; exit with code 1."""

    @functools.wraps(command)
    def wrapper(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except AvatarError as error:
            _say_error(str(error))
            sys.exit(1)
        except ModuleNotFoundError as error:
            extra = "train" if error.name == "torch" else "preprocessing"
            _say_error(
                f"this needs the package {error.name}: pip install 'lipsync-triton[{extra}]'"
            )
            sys.exit(1)

    return wrapper


def _say_error(line: str) -> None:
    say(f"lipsync-avatar: {line}", err=True)


def server_options(command: _Command[_Parameters]) -> _Command[_Parameters]:
    """Add --url and --admin-key."""
    url = click.option(
        "--url", envvar="LIPSYNC_URL", help="Server: grpc://HOST:PORT or http://HOST:PORT."
    )
    key = click.option(
        "--admin-key",
        envvar="LIPSYNC_ADMIN_KEY",
        metavar="[NAME=]KEY",
        help="Key of the server's model control, if it has one (NAME is admin-key by default).",
    )
    return url(key(command))


def models_option(command: _Command[_Parameters]) -> _Command[_Parameters]:
    """Add --models, the place of the face models."""
    return click.option(
        "--models",
        type=click.Path(path_type=Path),
        envvar="LIPSYNC_FACE_MODELS",
        metavar="DIR",
        help="Folder of the face models or of their wheel, for a machine that is offline."
        "  [default: your cache folder]",
    )(command)


def recording_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --start, --end and --height to a command, which receives `recording`; see `errors_in_one_line`."""

    @click.option(
        "--start", type=click.FloatRange(0), default=0.0, metavar="S", help="First second used."
    )
    @click.option(
        "--end",
        type=click.FloatRange(0),
        metavar="S",
        help="Last second used.  [default: the video's end]",
    )
    @click.option(
        "--height",
        type=click.IntRange(64),
        metavar="PX",
        help="Scale larger frames down to this height.  [default: their own]",
    )
    @functools.wraps(command)
    @errors_in_one_line
    def with_recording(start: float, end: float | None, height: int | None, **rest: Any) -> None:
        from lipsync_preprocessing.recording import RecordingOptions
        from lipsync_preprocessing.recording.video import Part

        if end is not None and end <= start:
            raise click.UsageError(f"--end: expected more than --start, {start:g}, got {end:g}")
        command(recording=RecordingOptions(Part(start, end), height), **rest)

    return with_recording


def repository_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add --repository to a command, which receives a repository that exists; see `errors_in_one_line`."""

    @click.option(
        "--repository",
        type=FOLDER,
        envvar="LIPSYNC_REPOSITORY",
        help="Triton model repository; it is made if it is missing."
        "  [default: one in your data folder]",
    )
    @functools.wraps(command)
    @errors_in_one_line
    def with_repository(repository: Path | None, **rest: Any) -> None:
        from lipsync_preprocessing.bundle import find_repository

        command(repository=find_repository(repository, _say_error), **rest)

    return with_repository


def model_control(url: str | None, admin_key: str | None) -> ModelControl:
    """Return the model control of the server at --url, after a call that shows that it responds."""
    from lipsync_preprocessing.model_control import ModelControl

    if url is None:
        raise click.UsageError("expected --url (or LIPSYNC_URL) of the running server")
    control = ModelControl(url, admin_key)
    control.check()
    return control


@contextlib.contextmanager
def progress_bars() -> Iterator[Report]:
    """Show a bar for each step on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _what, _done, _total: None
        return
    with contextlib.ExitStack() as bars:
        bar, shown = None, ""

        def report(what: str, done: int, total: int) -> None:
            nonlocal bar, shown
            if bar is None or what != shown:
                bars.close()  # the step before
                shown = what
                bar = bars.enter_context(
                    click.progressbar(length=total, label=what, show_pos=True, file=sys.stderr)
                )
            bar.update(done - bar.pos)

        yield report
