"""The command `lipsync-client`, and the subcommands that ask a server what it has."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from .common import (
    Connection,
    failures,
    json_option,
    repository_option,
    run,
    server,
    show_log,
    url_option,
)
from .live import live
from .render import render
from .signals import unwind_on_signals


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="lipsync-triton")
def main() -> None:
    """Render talking avatars with a lip-sync server on Triton.

    \b
    Shell completion:
        eval "$(_LIPSYNC_CLIENT_COMPLETE=bash_source lipsync-client)"
    (zsh_source in zsh, fish_source in fish)
    """
    show_log()
    unwind_on_signals()


main.add_command(render)
main.add_command(live)


@main.command()
@url_option
@repository_option
@json_option
def avatars(connection: Connection, repository: Path | None, as_json: bool) -> None:
    """List the server's avatars."""
    with failures(), server(connection, repository) as target:
        found = run(target, lambda client: client.avatars())
    if as_json:
        click.echo(json.dumps([vars(a) for a in found]))
        return
    for a in found:
        sessions = "" if a.live_sessions is None else f", {a.live_sessions} live sessions"
        click.echo(
            f"{a.name}: {a.width}x{a.height}, {a.frames} frames,"
            f" up to {a.max_frames} frames per request{sessions}"
        )


@main.command()
@url_option
@repository_option
@json_option
def health(connection: Connection, repository: Path | None, as_json: bool) -> None:
    """Show whether each model is ready.

    The exit code is 1 if one is not.
    """
    with failures(), server(connection, repository) as target:
        states = run(target, lambda client: client.health())
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
def info(connection: Connection, repository: Path | None, as_json: bool) -> None:
    """Show the server's version and its extensions."""
    with failures(), server(connection, repository) as target:
        metadata = run(target, lambda client: client.info())
    if as_json:
        click.echo(json.dumps(metadata))
    else:
        click.echo(f"{metadata['name']} {metadata['version']} at {target.url}")
        click.echo("extensions: " + ", ".join(metadata["extensions"]))
