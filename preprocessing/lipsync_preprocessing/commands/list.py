"""lipsync-avatar list."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from lipsync_preprocessing.commands.common import repository_option, say


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@repository_option
def list_avatars(repository: Path, as_json: bool) -> None:
    """List the avatars of the repository."""
    from lipsync_preprocessing.repository import Repository

    store = Repository(repository)
    avatars, leftovers = store.avatars(), store.leftovers()
    if as_json:
        click.echo(json.dumps({"avatars": [asdict(a) for a in avatars], "leftovers": leftovers}))
        return
    for avatar in avatars:
        versions = ", ".join(map(str, avatar.versions)) or "none"
        state = f"  MISSING {', '.join(avatar.missing)}" if avatar.missing else ""
        students = "".join(f", {s.version} (student {s.width})" for s in avatar.students)
        profiles = f"  profiles {', '.join(avatar.profiles)}" if avatar.profiles else ""
        say(
            f"{avatar.name}  {avatar.frames} frames  {avatar.width}x{avatar.height}  encoder"
            f" {avatar.encoder}  generator versions {versions}{students}{'  raw' if avatar.raw else ''}"
            f"{profiles}{state}"
        )
    for model in leftovers:
        say(f"{model}  left by an interrupted import or removal: lipsync-avatar remove")
