"""lipsync-avatar inspect."""

from __future__ import annotations

from pathlib import Path

import click

from lipsync_preprocessing.commands.common import FILE, repository_option, say
from lipsync_preprocessing.errors import AvatarError


@click.command()
@click.argument("name")
@click.option("-o", "--output", type=FILE, required=True, help="The PNG to write.")
@click.option("--rows", type=click.IntRange(1), default=8, help="Frames shown.")
@click.option("--force", is_flag=True, help="Overwrite the file.")
@repository_option
def inspect(repository: Path, name: str, output: Path, rows: int, force: bool) -> None:
    """Write a contact sheet of the avatar NAME (frames, rectangles, faces, masks); list its profiles."""
    from lipsync_preprocessing.avatar.contact_sheet import contact_sheet
    from lipsync_preprocessing.dataset.images import encode_png
    from lipsync_preprocessing.profiles.files import stale_profiles
    from lipsync_preprocessing.repository import Repository

    if output.exists() and not force:
        raise AvatarError(f"{output}: exists already; --force overwrites it")
    sheet = encode_png(contact_sheet(repository, name, rows))
    try:
        output.write_bytes(sheet)
    except OSError as error:
        raise AvatarError(f"{output}: cannot be written: {error.strerror}") from error
    say(f"{output}: the contact sheet of {name}")
    store = Repository(repository)
    avatar, stale = store.avatar(name), stale_profiles(store, name)
    for student in avatar.students:
        other = "" if student.teacher in avatar.versions[-1:] else ", which is not served any more"
        say(
            f"version {student.version}: student of width {student.width}, taught by version"
            f" {student.teacher}{other}"
        )
    for profile in avatar.profiles:
        again = "  made from another config.pbtxt: tune again" if profile in stale else ""
        say(f"profile {profile}{again}")
