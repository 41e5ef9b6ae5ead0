"""lipsync-client: render a talking video, and ask a server what it has."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import click

from .common import (
    Connection,
    failures,
    json_option,
    repository_option,
    run,
    server,
    url_option,
)
from .live import live
from .render import render

_HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"], "show_default": True}


@click.group(context_settings=_HELP)
@click.version_option(package_name="lipsync-triton")
def main() -> None:
    """Talking avatars from a lip-sync server on Triton.

    Completion in bash: eval "$(_LIPSYNC_CLIENT_COMPLETE=bash_source lipsync-client)"; zsh_source and
    fish_source likewise.
    """
    # One way out for every signal: what is half-written goes, what was started ends.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminated)


def _terminated(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


main.add_command(render)
main.add_command(live)


@main.command()
@url_option
@repository_option
@json_option
def avatars(connection: Connection, repository: Path, as_json: bool) -> None:
    """List the server's avatars."""
    with failures(), server(connection, repository) as where:
        found = run(where, lambda client: client.avatars())
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
def health(connection: Connection, repository: Path, as_json: bool) -> None:
    """Readiness of every model; exit code 1 if one is not ready."""
    with failures(), server(connection, repository) as where:
        states = run(where, lambda client: client.health())
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
def info(connection: Connection, repository: Path, as_json: bool) -> None:
    """The server's version and extensions."""
    with failures(), server(connection, repository) as where:
        about = run(where, lambda client: client.info())
    if as_json:
        click.echo(json.dumps(about))
    else:
        click.echo(f"{about['name']} {about['version']} at {where.url}")
        click.echo("extensions: " + ", ".join(about["extensions"]))
