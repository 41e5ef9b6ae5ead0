"""lipsync-avatar: avatars in and out of a Triton model repository.

Exit codes: 0 done, 1 it failed (one line on standard error says why), 2 wrong usage.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lipsync_preprocessing.errors import AvatarError
from lipsync_preprocessing.options import (
    FILE,
    FOLDER,
    failing_in_one_line,
    repository_option,
    server_options,
)
from lipsync_preprocessing.tune_command import tune

# The rest is imported by the commands that use it: ONNX takes a second, and --help should not.


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def main() -> None:
    """Bring trained avatars into a Triton model repository, and look after them."""


main.add_command(tune)


@main.command()
@click.argument("name")
@click.option("--dataset", type=FOLDER, required=True, help="Raw or packaged dataset folder.")
@click.option("--generator", type=FILE, required=True, help="99.onnx or 99.pth.")
@click.option("--audio-encoder", type=FILE, required=True, help="Its ONNX file or checkpoint.")
@click.option("--raw", is_flag=True, help="Serve the bare network too, as NAME_raw.")
@click.option("--no-parsing", is_flag=True, help="Leave the dataset's parsing masks aside.")
@click.option("--feather", type=float, metavar="PX", help="Soft edge of the paste, pixels of 320.")
@click.option("--colour-match", is_flag=True, help="Match the patch's colour to the original rim.")
@click.option(
    "--silence-gate",
    type=float,
    metavar="DB",
    help="Below this level (of full scale, such as -45) the mouth eases to the avatar's own frame.",
)
@click.option(
    "--silence-after", type=float, metavar="S", help="... this far from any louder sound."
)
@click.option("--load", is_flag=True, help="Load it into the running server at --url.")
@server_options
@repository_option
@failing_in_one_line
def add(
    repository: Path,
    name: str,
    dataset: Path,
    generator: Path,
    audio_encoder: Path,
    raw: bool,
    no_parsing: bool,
    feather: float | None,
    colour_match: bool,
    silence_gate: float | None,
    silence_after: float | None,
    load: bool,
    url: str | None,
    admin_key: str | None,
) -> None:
    """Make the avatar NAME from a dataset, its generator and the audio encoder."""
    from lipsync_preprocessing.avatar import add_avatar, models_of
    from lipsync_preprocessing.configs import PasteOptions
    from lipsync_preprocessing.repository import RAW, Repository

    control = _control(url, admin_key) if load else None
    paste = PasteOptions(feather, colour_match, silence_gate, silence_after)
    with _progress() as report:
        made = add_avatar(
            repository,
            name,
            dataset,
            generator,
            audio_encoder,
            raw=raw,
            parsing=not no_parsing,
            paste=paste,
            report=report,
        )
    click.echo(
        f"{made.name}: {made.frames} frames of {made.width}x{made.height},"
        f" audio encoder {made.encoder}{f', raw network {name}{RAW}' if raw else ''}"
    )
    if control is not None:
        try:
            control.load_all(models_of(Repository(repository), name))
        except AvatarError as error:
            raise AvatarError(
                f"{error} (the avatar is in the repository; to try again: update {name} --load)"
            ) from error
        click.echo(f"{name}: loaded at {url}")


@main.command("list")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@repository_option
@failing_in_one_line
def list_(repository: Path, as_json: bool) -> None:
    """The avatars of the repository."""
    from lipsync_preprocessing.repository import Repository

    store = Repository(repository)
    avatars, leftovers = store.avatars(), store.leftovers()
    if as_json:
        click.echo(json.dumps({"avatars": [asdict(a) for a in avatars], "leftovers": leftovers}))
        return
    for avatar in avatars:
        versions = ", ".join(map(str, avatar.versions)) or "none"
        state = f"  MISSING {', '.join(avatar.missing)}" if avatar.missing else ""
        profiles = f"  profiles {', '.join(avatar.profiles)}" if avatar.profiles else ""
        click.echo(
            f"{avatar.name}  {avatar.frames} frames  {avatar.width}x{avatar.height}  encoder"
            f" {avatar.encoder}  generator versions {versions}{'  raw' if avatar.raw else ''}{profiles}"
            f"{state}"
        )
    for model in leftovers:
        click.echo(f"{model}  left by an interrupted import or removal: lipsync-avatar remove")


@main.command()
@click.argument("name")
@click.option("--unload", is_flag=True, help="Unload it from the running server at --url first.")
@server_options
@repository_option
@failing_in_one_line
def remove(
    repository: Path, name: str, unload: bool, url: str | None, admin_key: str | None
) -> None:
    """Take the avatar NAME out of the repository."""
    from lipsync_preprocessing.avatar import check_removable, remove_avatar

    if unload:
        control = _control(url, admin_key)
        for model in check_removable(repository, name):
            control.unload(model)
        click.echo(f"{name}: unloaded at {url}")
    removed = remove_avatar(repository, name)
    click.echo(f"{name}: removed {', '.join(removed)}")


@main.command()
@click.argument("name")
@repository_option
@failing_in_one_line
def check(repository: Path, name: str) -> None:
    """Load the avatar NAME in a server of its own and render a second with it."""
    from lipsync_preprocessing.trial import SECONDS, try_avatar

    trial = try_avatar(repository, name)
    click.echo(
        f"{name}: ok, {trial.frames} frames for {SECONDS} s of sound in {trial.seconds:.1f} s;"
        f" sound changes the face by {trial.difference:.1f} grey levels"
    )


@main.command()
@click.argument("name")
@click.option("-o", "--output", type=FILE, required=True, help="The PNG to write.")
@click.option("--rows", type=click.IntRange(1), default=8, help="Frames shown.")
@click.option("--force", is_flag=True, help="Overwrite the file.")
@repository_option
@failing_in_one_line
def inspect(repository: Path, name: str, output: Path, rows: int, force: bool) -> None:
    """A contact sheet of the avatar NAME: frames with rectangles, faces, masks. And its profiles."""
    from lipsync_preprocessing.contact_sheet import contact_sheet
    from lipsync_preprocessing.dataset import encode_png
    from lipsync_preprocessing.profiles import stale_profiles
    from lipsync_preprocessing.repository import Repository

    if output.exists() and not force:
        raise AvatarError(f"{output}: is there already; --force overwrites it")
    sheet = encode_png(contact_sheet(repository, name, rows))
    try:
        output.write_bytes(sheet)
    except OSError as error:
        raise AvatarError(f"{output}: cannot be written: {error.strerror}") from error
    click.echo(f"{output}: the contact sheet of {name}")
    store = Repository(repository)
    old = stale_profiles(store, name)
    for profile in store.avatar(name).profiles:
        again = "  made from another config.pbtxt: tune again" if profile in old else ""
        click.echo(f"profile {profile}{again}")


@main.command()
@click.argument("name")
@click.option("--generator", type=FILE, help="New 99.onnx or 99.pth: becomes the next version.")
@click.option("--rollback", is_flag=True, help="Delete the newest version instead.")
@click.option("--prune", is_flag=True, help="Delete all versions but the newest.")
@click.option("--load", is_flag=True, help="Have the running server at --url switch.")
@server_options
@repository_option
@failing_in_one_line
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
    from lipsync_preprocessing import update as updating
    from lipsync_preprocessing.avatar import models_of
    from lipsync_preprocessing.repository import Repository

    if rollback and (prune or generator is not None):
        raise click.UsageError("--rollback goes alone")
    if not (rollback or prune or load or generator is not None):
        raise click.UsageError("expected --generator, --rollback, --prune or --load")
    control = _control(url, admin_key) if load else None
    if generator is not None:
        version = updating.update_generator(repository, name, generator)
        click.echo(f"{name}: generator version {version}")
    if rollback:
        dropped = updating.roll_back(repository, name)
        click.echo(f"{name}: version {dropped[0]} deleted")
    if control is not None:
        control.load_all(models_of(Repository(repository), name))
        click.echo(f"{name}: loaded at {url}")
    if prune:
        dropped = updating.prune_versions(repository, name)
        click.echo(f"{name}: deleted versions {', '.join(map(str, dropped)) or '(none)'}")


def _control(url: str | None, admin_key: str | None) -> Any:
    from lipsync_preprocessing.model_control import ModelControl

    if url is None:
        raise click.UsageError("expected --url (or LIPSYNC_URL) of the running server")
    control = ModelControl(url, admin_key)
    control.check()  # before anything is changed
    return control


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each stage, on standard error, where somebody watches."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        yield report
