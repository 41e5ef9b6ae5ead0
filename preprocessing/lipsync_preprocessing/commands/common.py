"""Options and output that the commands of lipsync-avatar share."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec

import click

from lipsync_preprocessing.errors import AvatarError, printable

if TYPE_CHECKING:
    from rich.progress import TaskID

    from lipsync_preprocessing.avatar.materials import Report
    from lipsync_preprocessing.model_control import ModelControl

_Parameters = ParamSpec("_Parameters")
_Command = Callable[_Parameters, None]

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


def say(line: str, *, err: bool = False) -> None:
    """Print one line; control characters, which a file name may contain, are escaped."""
    click.echo(printable(line), err=err)


def errors_in_one_line(command: _Command[_Parameters]) -> _Command[_Parameters]:
    """Print an AvatarError as one line on standard error, and exit with code 1."""

    @functools.wraps(command)
    def wrapper(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except AvatarError as error:
            say(f"lipsync-avatar: {error}", err=True)
            sys.exit(1)

    return wrapper


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


def repository_option(command: _Command[_Parameters]) -> _Command[_Parameters]:
    """Add --repository."""
    return click.option(
        "--repository",
        type=FOLDER,
        default=Path("model_repository"),
        envvar="LIPSYNC_REPOSITORY",
        help="Triton model repository.",
    )(command)


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
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        yield report
