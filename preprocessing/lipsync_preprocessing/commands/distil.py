"""lipsync-avatar distil."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from lipsync_preprocessing.commands.common import (
    FILE,
    FOLDER,
    network_width,
    progress_bars,
    repository_option,
    say,
)
from lipsync_preprocessing.commands.train import course_options

# A student that begins with its teacher's weights needs fewer steps than a training from nothing.
_COURSE = {"crops": 1500, "steps": 800, "crop_batch": 4, "batch": 4}


@click.command(context_settings={"default_map": _COURSE})
@click.argument("name")
@click.option(
    "--width",
    type=network_width,
    required=True,
    metavar="1/2|1/4",
    help="Size of the student's network, as a part of the true size.",
)
@click.option(
    "--region",
    type=click.Choice(["mouth", "face"]),
    default="mouth",
    help="What it computes: what its teacher moves, and around it the frame as it is; or the whole face.",
)
@click.option(
    "--speech",
    type=FILE,
    multiple=True,
    help="Speech of any voice, 10 s at least and better some minutes; may repeat.",
)
@click.option(
    "--work",
    type=FOLDER,
    metavar="DIR",
    help="Folder for the teacher's patches and the training.  [default: NAME.distil]",
)
@click.option(
    "--pairs",
    type=click.IntRange(1),
    default=3000,
    help="Number of the teacher's patches to learn from, 0.3 MB each.",
)
@click.option("--resume", is_flag=True, help="Go on with an interrupted training.")
@click.option(
    "--remove", "removing", is_flag=True, help="Remove the student of this width instead."
)
@course_options
@repository_option
def distil(
    repository: Path,
    name: str,
    width: Fraction,
    region: str,
    speech: tuple[Path, ...],
    work: Path | None,
    removing: bool,
    **chosen: Any,
) -> None:
    """Teach a smaller generator by the own generator of the avatar NAME, for faster renders.

    It becomes a version beside the avatar's own. No server runs it unless it is started with a profile of it:
    lipsync-avatar tune NAME --profile PROFILE --width WIDTH.
    """
    if removing:
        from lipsync_preprocessing.avatar import remove_students

        versions = remove_students(repository, name, width)
        say(f"{name}: deleted versions {', '.join(map(str, versions))}")
        return
    from lipsync_preprocessing.distillation.course import DistilOptions
    from lipsync_preprocessing.distillation.distil import distil as teach
    from lipsync_preprocessing.distillation.speech import default_speech
    from lipsync_preprocessing.training.loop import LoopSettings

    course = {key: chosen.pop(key) for key in ("crops", "steps", "crop_batch", "batch")}
    options = DistilOptions(width, region, LoopSettings(decay=0.5, **course), **chosen)
    folder = work or Path(f"{name}.distil")
    try:
        with progress_bars() as report:
            card, version = teach(
                repository,
                name,
                folder,
                speech or default_speech(),
                options,
                report=report,
                say=lambda line: say(str(line), err=True),
            )
    except KeyboardInterrupt:
        say(f"lipsync-avatar: interrupted; --resume goes on with what is in {folder}", err=True)
        raise
    for line in card.lines():
        say(line)
    say(f"{name}: version {version}, which only its own profiles serve; {folder} may be removed")
    say(f"lipsync-avatar tune {name} --profile openvino-bf16 --width {width}")
