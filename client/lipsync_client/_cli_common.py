"""What the commands share: options, the way to a server, errors as exit codes, progress."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from . import AsyncLipSyncClient, LipSyncError

_URL_HELP = "grpc://HOST:PORT or http://HOST:PORT; without one an embedded server is started."

url_option = click.option("--url", envvar="LIPSYNC_URL", help=_URL_HELP)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
repository_option = click.option(
    "--repository", type=click.Path(path_type=Path, file_okay=False), envvar="LIPSYNC_REPOSITORY",
    default=Path("model_repository"), help="Model repository of the embedded server.",
)  # fmt: skip


def run(url: str, work: Callable[[AsyncLipSyncClient], Any]) -> Any:
    """Do some work with a client, in an event loop of its own."""

    async def call() -> Any:
        async with AsyncLipSyncClient(url) as client:
            return await work(client)

    return asyncio.run(call())


@contextmanager
def failures() -> Iterator[None]:
    """What went wrong in one line, and the right exit code."""
    try:
        yield
    except LipSyncError as e:
        click.echo(f"lipsync-client: {e}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo("lipsync-client: interrupted", err=True)
        sys.exit(130)


@contextmanager
def server(url: str | None, repository: Path, avatar: str | None = None) -> Iterator[str]:
    """The URL to talk to; starts an embedded server if none was given."""
    if url is not None:
        yield url
        return
    try:
        from lipsync_embedded import Server, ServerError, WheelError
    except ImportError as e:
        raise LipSyncError(
            "no --url was given, and the embedded server is not installed:"
            " pip install 'lipsync-triton[embedded]'"
        ) from e
    if not repository.is_dir():
        raise LipSyncError(
            f"no --url was given, and the embedded server's model repository {repository} is not there:"
            " name it with --repository"
        )
    if avatar is not None and not (repository / avatar / "config.pbtxt").is_file():
        raise LipSyncError(f"there is no avatar {avatar!r} in {repository}")
    click.echo("starting the embedded Triton server ...", err=True)
    try:
        with Server(repository, models=None if avatar is None else [avatar]) as server:
            yield server.grpc_url
    except (ServerError, WheelError) as e:
        raise LipSyncError(str(e)) from e


@contextmanager
def progress() -> Iterator[Callable[[int, int | None], None]]:
    """A bar on stderr with frames, FPS and the time left; nothing where stderr is no terminal."""
    columns = (
        TextColumn("rendering"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} frames"),
        TextColumn("{task.fields[fps]:.1f} FPS"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=0, fps=0.0)

        def report(done: int, expected: int | None) -> None:
            elapsed = bar.tasks[0].elapsed or 0.0
            fps = done / elapsed if elapsed else 0.0
            bar.update(task, completed=done, total=max(expected or done, done), fps=fps)

        yield report
