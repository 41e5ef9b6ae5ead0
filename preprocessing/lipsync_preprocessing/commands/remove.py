"""lipsync-avatar remove."""

from __future__ import annotations

from pathlib import Path

import click

from lipsync_preprocessing.commands.common import (
    model_control,
    repository_option,
    say,
    server_options,
)


@click.command()
@click.argument("name")
@click.option("--unload", is_flag=True, help="Unload it from the running server at --url first.")
@server_options
@repository_option
def remove(
    repository: Path, name: str, unload: bool, url: str | None, admin_key: str | None
) -> None:
    """Remove the avatar NAME from the repository."""
    from lipsync_preprocessing.avatar.removing import check_removable, remove_avatar

    if unload:
        control = model_control(url, admin_key)
        for model in check_removable(repository, name):
            control.unload(model)
        say(f"{name}: unloaded at {url}")
    removed = remove_avatar(repository, name)
    say(f"{name}: removed {', '.join(removed)}")
