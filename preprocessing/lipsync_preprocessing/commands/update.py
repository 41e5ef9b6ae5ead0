"""lipsync-avatar update."""

from __future__ import annotations

from pathlib import Path

import click

from lipsync_preprocessing.commands.common import (
    FILE,
    model_control,
    repository_option,
    say,
    server_options,
)


@click.command()
@click.argument("name")
@click.option("--generator", type=FILE, help="New 99.onnx or 99.pth: becomes the next version.")
@click.option("--rollback", is_flag=True, help="Delete the newest version instead.")
@click.option("--prune", is_flag=True, help="Delete all versions but the newest.")
@click.option("--load", is_flag=True, help="Have the running server at --url switch.")
@server_options
@repository_option
def update(
    repository: Path,
    name: str,
    generator: Path | None,
    rollback: bool,
    prune: bool,
    load: bool,
    url: str | None,
    admin_key: str | None,
) -> None:
    """Give the avatar NAME a new generator. The old version stays until --prune.

    With --load alone, have the server load the avatar as it is.
    """
    from lipsync_preprocessing.avatar import (
        models_of,
        prune_versions,
        roll_back,
        update_generator,
    )
    from lipsync_preprocessing.repository import Repository

    if rollback and (prune or generator is not None):
        raise click.UsageError("--rollback cannot be combined with --prune or --generator")
    if not (rollback or prune or load or generator is not None):
        raise click.UsageError("expected --generator, --rollback, --prune or --load")
    control = model_control(url, admin_key) if load else None
    if generator is not None:
        version = update_generator(repository, name, generator)
        say(f"{name}: generator version {version}")
        for student in Repository(repository).avatar(name).students:
            say(
                f"{name}: the student of width {student.width} was taught by version {student.teacher}; for"
                f" another: lipsync-avatar distil {name} --width {student.width}"
            )
    if rollback:
        version, *students = roll_back(repository, name)
        taught = f", and its students, {', '.join(map(str, students))}" if students else ""
        say(f"{name}: version {version} deleted{taught}")
    if control is not None:
        control.load_all(models_of(Repository(repository), name))
        say(f"{name}: loaded at {url}")
    if prune:
        dropped = prune_versions(repository, name)
        say(f"{name}: deleted versions {', '.join(map(str, dropped)) or '(none)'}")
