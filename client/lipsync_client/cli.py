"""lipsync-client: render a talking video, and ask a server what it has."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from . import AsyncLipSyncClient, LipSyncError, Plan, Summary

T = TypeVar("T")
_URL_HELP = "grpc://HOST:PORT or http://HOST:PORT; without one an embedded server is started."
_HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"], "show_default": True}

url_option = click.option("--url", envvar="LIPSYNC_URL", help=_URL_HELP)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
repository_option = click.option(
    "--repository", type=click.Path(path_type=Path, file_okay=False), envvar="LIPSYNC_REPOSITORY",
    default=Path("model_repository"), help="Model repository of the embedded server.",
)  # fmt: skip


@click.group(context_settings=_HELP)
@click.version_option(package_name="lipsync-triton")
def main() -> None:
    """Talking avatars from a lip-sync server on Triton."""
    # One way out for every signal: what is half-written goes, what was started ends.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminated)


def _terminated(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@main.command()
@click.argument("audio", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="MP4 to write."
)
@click.option(
    "--frames-dir", type=click.Path(path_type=Path, file_okay=False), help="Write pictures instead."
)
@click.option(
    "--format", "kind", type=click.Choice(["png", "jpg"]), default="png", help="Of the pictures."
)
@click.option("--avatar", required=True, help="Name of the avatar.")
@url_option
@repository_option
@click.option("--force", is_flag=True, help="Replace what is there.")
@json_option
@click.option(
    "--chunk", type=click.IntRange(min=1), help="Frames a request; the server's limit if not given."
)
@click.option(
    "--in-flight", type=click.IntRange(1, 64), default=3, help="Requests under way at once."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=120.0,
    help="Seconds to wait for a request.",
)
@click.option(
    "--crf",
    type=click.IntRange(0, 51),
    help="H.264 quality, lower is better; the server's if not given.",
)
@click.option("--preset", help="x264 preset; the server's if not given.")
def render(
    audio: Path,
    output: Path | None,
    frames_dir: Path | None,
    kind: str,
    avatar: str,
    url: str | None,
    repository: Path,
    force: bool,
    as_json: bool,
    chunk: int | None,
    in_flight: int,
    timeout: float,
    crf: int | None,
    preset: str | None,
) -> None:
    """Make the avatar speak AUDIO: any audio or video file."""
    target = output or frames_dir
    if target is None or (output is not None and frames_dir is not None):
        raise click.UsageError("say where the result goes: either -o OUT.mp4 or --frames-dir DIR")
    options = {k: v for k, v in (("crf", crf), ("preset", preset)) if v is not None}
    plan = Plan(chunk=chunk, in_flight=in_flight, timeout_s=timeout, options=options)

    async def work(
        client: AsyncLipSyncClient, report: Callable[[int, int | None], None]
    ) -> Summary:
        return await client.render_to_file(
            audio, target, avatar, plan,
            frames=kind if frames_dir else None, force=force, progress=report,
        )  # fmt: skip

    with _failures(), _server(url, repository, avatar) as where, _progress() as report:
        summary = _run(where, lambda client: work(client, report))
    if as_json:
        click.echo(
            json.dumps(
                {
                    "output": str(summary.output),
                    "frames": summary.frames,
                    "seconds": round(summary.seconds, 3),
                    "fps": round(summary.fps, 2),
                    "realtime_factor": round(summary.realtime_factor, 3),
                    "first_frame_s": round(summary.first_frame_s, 3),
                }
            )
        )
    else:
        click.echo(
            f"{summary.output}: {summary.frames} frames in {summary.seconds:.1f} s,"
            f" {summary.fps:.1f} FPS ({summary.realtime_factor:.2f} x real time),"
            f" first frame after {summary.first_frame_s:.2f} s"
        )


@main.command()
@url_option
@repository_option
@json_option
def avatars(url: str | None, repository: Path, as_json: bool) -> None:
    """List the server's avatars."""
    with _failures(), _server(url, repository) as where:
        found = _run(where, lambda client: client.avatars())
    if as_json:
        click.echo(json.dumps([vars(a) for a in found]))
        return
    for a in found:
        click.echo(
            f"{a.name}: {a.width}x{a.height}, {a.frames} frames, up to {a.max_frames} a request"
        )


@main.command()
@url_option
@repository_option
@json_option
def health(url: str | None, repository: Path, as_json: bool) -> None:
    """Readiness of every model; exit code 1 if one is not ready."""
    with _failures(), _server(url, repository) as where:
        states = _run(where, lambda client: client.health())
    if as_json:
        click.echo(json.dumps(states))
    else:
        for name, ready in states.items():
            click.echo(f"{name}: {'ready' if ready else 'NOT READY'}")
    sys.exit(0 if states and all(states.values()) else 1)


@main.command()
@url_option
@repository_option
@json_option
def info(url: str | None, repository: Path, as_json: bool) -> None:
    """The server's version and extensions."""
    with _failures(), _server(url, repository) as where:
        about = _run(where, lambda client: client.info())
    if as_json:
        click.echo(json.dumps(about))
    else:
        click.echo(f"{about['name']} {about['version']} at {where}")
        click.echo("extensions: " + ", ".join(about["extensions"]))


def _run(url: str, work: Callable[[AsyncLipSyncClient], Any]) -> Any:
    async def call() -> Any:
        async with AsyncLipSyncClient(url) as client:
            return await work(client)

    return asyncio.run(call())


@contextmanager
def _failures() -> Iterator[None]:
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
def _server(url: str | None, repository: Path, avatar: str | None = None) -> Iterator[str]:
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
def _progress() -> Iterator[Callable[[int, int | None], None]]:
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
