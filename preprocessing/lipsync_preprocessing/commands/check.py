"""lipsync-avatar check."""

from __future__ import annotations

from pathlib import Path

import click

from lipsync_preprocessing.commands.common import repository_option, say


@click.command()
@click.argument("name")
@repository_option
def check(repository: Path, name: str) -> None:
    """Load the avatar NAME in a server of its own, and check that its mouth follows the audio."""
    from lipsync_preprocessing.avatar.trial import SECONDS, try_avatar

    trial = try_avatar(repository, name)
    say(
        f"{name}: ok, {trial.frames} frames for {SECONDS} s of audio in {trial.seconds:.1f} s;"
        f" speech changes the face by {trial.difference:.1f} grey levels"
    )
