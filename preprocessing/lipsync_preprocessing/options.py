"""What the commands of lipsync-avatar share."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from lipsync_preprocessing.errors import AvatarError

_Command = TypeVar("_Command", bound=Callable[..., Any])
FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


def failing_in_one_line(command: _Command) -> _Command:
    """AvatarErrors as a line on standard error, and exit code 1."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except AvatarError as error:
            click.echo(f"lipsync-avatar: {error}", err=True)
            sys.exit(1)

    return wrapper  # type: ignore[return-value]


def server_options(command: _Command) -> _Command:
    url = click.option(
        "--url", envvar="LIPSYNC_URL", help="Server: grpc://HOST:PORT or http://HOST:PORT."
    )
    key = click.option(
        "--admin-key",
        envvar="LIPSYNC_ADMIN_KEY",
        metavar="[NAME=]KEY",
        help="Where the server's model control is behind a key (its name: admin-key).",
    )
    return url(key(command))


def repository_option(command: _Command) -> _Command:
    return click.option(
        "--repository",
        type=FOLDER,
        default=Path("model_repository"),
        envvar="LIPSYNC_REPOSITORY",
        help="Triton model repository.",
    )(command)
