"""Parts that the commands share: options, the way to a server, exit codes, progress."""

from __future__ import annotations

import functools
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .. import AsyncLipSyncClient, LipSyncError
from .._errors import PipeClosed
from .._output.formats import FormatError
from .signals import run_until_signal

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

T = TypeVar("T")

_URL_HELP = (
    "grpc://HOST:PORT or http://HOST:PORT; grpcs:// or https:// with TLS; several separated by commas."
    "  [default: start an embedded server]"
)


def _complete_avatar(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[str]:
    """Return the names of the avatars in the model repository."""
    from lipsync_preprocessing.bundle import default_repository

    named = context.params.get("repository") or os.environ.get("LIPSYNC_REPOSITORY")
    repository = Path(named) if named else default_repository()
    configs = repository.glob(f"{escape(incomplete)}*/config.pbtxt")
    return sorted(c.parent.name for c in configs if '"lipsync_api"' in c.read_text())


avatar_option = click.option(
    "--avatar", required=True, shell_complete=_complete_avatar, help="Name of the avatar."
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object to standard output."
)
repository_option = click.option(
    "--repository", type=click.Path(path_type=Path, file_okay=False), envvar="LIPSYNC_REPOSITORY",
    help="Model repository of the embedded server; it is made if it is missing."
    "  [default: one in your data folder]",
)  # fmt: skip


@dataclass(frozen=True)
class Connection:
    """The server to talk to, and the credentials for it.

    Attributes:
        url: as for AsyncLipSyncClient; None for an embedded server.
        token: bearer token of a gateway.
        ca_file: PEM file of the authority that signed the gateway's certificate.
        insecure: send the token without TLS to other machines too.
    """

    url: str | None
    token: str | None
    ca_file: Path | None
    insecure: bool


def url_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add --url, --token, --ca-file and --insecure to a command, which receives them as `connection`."""

    @click.option("--url", envvar="LIPSYNC_URL", help=_URL_HELP)
    @click.option("--token", envvar="LIPSYNC_TOKEN", help="Bearer token of the gateway.")
    @click.option(
        "--ca-file",
        envvar="LIPSYNC_CA_FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        help="PEM file of the authority that signed the gateway's certificate.",
    )
    @click.option(
        "--insecure", is_flag=True, help="Send the token without TLS to other machines too."
    )
    @functools.wraps(command)
    def with_connection(
        url: str | None, token: str | None, ca_file: Path | None, insecure: bool, **rest: Any
    ) -> None:
        command(connection=Connection(url, token, ca_file, insecure), **rest)

    return with_connection


def run(connection: Connection, work: Callable[[AsyncLipSyncClient], Awaitable[T]]) -> T:
    """Run `work` with a client, in an event loop of its own, and return its result."""
    trace = {
        k: os.environ[k.upper()] for k in ("traceparent", "tracestate") if k.upper() in os.environ
    }

    async def call() -> T:
        async with AsyncLipSyncClient(
            connection.url or "",
            token=connection.token,
            ca_file=connection.ca_file,
            insecure=connection.insecure,
            headers=lambda: trace,
        ) as client:
            return await work(client)

    return run_until_signal(call())


def show_log() -> None:
    """Print what the client logs to standard error."""
    logger = logging.getLogger("lipsync_client")
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(_LogHandler())


class _LogHandler(logging.Handler):
    """A handler that writes to standard error; on a terminal its line takes the place of a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "warning: " if record.levelno >= logging.WARNING else ""
        clear = "\r\x1b[K" if sys.stderr.isatty() else ""
        click.echo(f"{clear}lipsync-client: {level}{record.getMessage()}", err=True)


@contextmanager
def failures() -> Iterator[None]:
    """Turn an error into one line on standard error and an exit code: 2 for usage errors, else 1."""
    try:
        yield
    except PipeClosed:
        sys.exit(1)  # without a word: whoever closed the pipe knows
    except FormatError as e:
        raise click.UsageError(str(e)) from e
    except (LipSyncError, OSError) as e:
        click.echo(f"lipsync-client: {e}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo("lipsync-client: interrupted", err=True)
        sys.exit(130)


@contextmanager
def server(
    connection: Connection, repository: Path | None, avatar: str | None = None
) -> Iterator[Connection]:
    """Yield the connection to use; without a URL, to an embedded server that runs during the block.

    Args:
        connection: of the options.
        repository: the embedded server's; None for the user's own.
        avatar: load this avatar alone.
    """
    if connection.url is not None:
        yield connection
        return
    try:
        from lipsync_embedded import EmbeddedServerError, Server, WheelError, find_wheel
        from lipsync_preprocessing.bundle import find_repository
        from lipsync_preprocessing.errors import AvatarError

        find_wheel()
        root = find_repository(
            repository, lambda line: click.echo(f"lipsync-client: {line}", err=True)
        )
    except (AvatarError, WheelError) as e:
        raise LipSyncError(f"no --url was given: {e}") from e
    if avatar is not None and not (root / avatar / "config.pbtxt").is_file():
        raise LipSyncError(f"there is no avatar {avatar!r} in {root}")
    click.echo("starting the embedded Triton server ...", err=True)
    try:
        with Server(root, models=None if avatar is None else [avatar]) as server:
            yield Connection(server.grpc_url, None, None, insecure=False)
    except (EmbeddedServerError, WheelError) as e:
        raise LipSyncError(str(e)) from e


@contextmanager
def progress() -> Iterator[Callable[[int, int | None], None]]:
    """Show a bar with frames, FPS and the time left, if standard error is a terminal.

    Yields:
        A function that is called with the frames done and the frames expected (None: unknown).
    """
    if not sys.stderr.isatty():
        yield lambda _done, _expected: None
        return
    began, fps = time.monotonic(), 0.0
    bar: ProgressBar[int] = click.progressbar(
        length=1,
        label="rendering",
        show_pos=True,
        show_percent=False,
        item_show_func=lambda _frame: f"{fps:.1f} FPS",
        file=sys.stderr,
    )
    with bar:

        def report(done: int, expected: int | None) -> None:
            nonlocal fps
            fps = done / max(time.monotonic() - began, 1e-9)
            bar.length = max(expected or done + 1, done)
            bar.update(done - bar.pos)

        yield report
