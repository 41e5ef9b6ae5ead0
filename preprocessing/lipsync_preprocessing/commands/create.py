"""lipsync-avatar create."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lipsync_preprocessing.commands.common import (
    FILE,
    FOLDER,
    models_option,
    progress_bars,
    repository_option,
    say,
)
from lipsync_preprocessing.commands.train import chosen_options, training_options


@click.command()
@click.argument("name")
@click.argument("video", type=FILE)
@click.option("--audio-encoder", type=FILE, required=True, help="Its ONNX file or checkpoint.")
@click.option(
    "--work",
    type=FOLDER,
    metavar="DIR",
    help="Folder for the dataset and the training.  [default: NAME.lipsync]",
)
@click.option(
    "--loop",
    type=click.Choice(["rest", "whole"]),
    default="rest",
    help="Frames that the avatar shows: the rest loop, if there is one, or the whole video.",
)
@click.option(
    "--start", type=click.FloatRange(0), default=0.0, metavar="S", help="First second used."
)
@click.option(
    "--end",
    type=click.FloatRange(0),
    metavar="S",
    help="Last second used.  [default: the video's end]",
)
@click.option(
    "--height",
    type=click.IntRange(64),
    metavar="PX",
    help="Scale larger frames down to this height.",
)
@click.option("--no-tune", is_flag=True, help="Measure no profile for this machine.")
@models_option
@training_options
@repository_option
def create(
    repository: Path,
    name: str,
    video: Path,
    audio_encoder: Path,
    work: Path | None,
    loop: str,
    start: float,
    end: float | None,
    height: int | None,
    no_tune: bool,
    models: Path | None,
    **chosen: Any,
) -> None:
    """Make the avatar NAME of VIDEO: dataset, train, add, tune and check.

    Interrupted, it goes on where it was when it is given again.
    """
    from lipsync_preprocessing.creation import Creation, create_avatar
    from lipsync_preprocessing.recording import RecordingOptions
    from lipsync_preprocessing.recording.video import Part

    if end is not None and end <= start:
        raise click.UsageError(f"--end: expected more than --start, {start:g}, got {end:g}")
    creation = Creation(
        name,
        video,
        audio_encoder,
        work or Path(f"{name}.lipsync"),
        RecordingOptions(Part(start, end), height),
        chosen_options(resume=True, **chosen),
        rest_loop=loop == "rest",
        tuned=not no_tune,
        models=models,
    )
    with progress_bars() as report:
        create_avatar(repository, creation, report, say)
