"""lipsync-avatar create."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lipsync_preprocessing.commands.common import (
    FILE,
    FOLDER,
    models_option,
    progress_bars,
    recording_options,
    repository_option,
    say,
)
from lipsync_preprocessing.commands.train import chosen_options, training_options

if TYPE_CHECKING:
    from lipsync_preprocessing.recording import RecordingOptions


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
@recording_options
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
    recording: RecordingOptions,
    no_tune: bool,
    models: Path | None,
    **chosen: Any,
) -> None:
    """Make the avatar NAME of VIDEO: dataset, train, add, tune and check.

    Interrupted, it goes on where it was when it is given again.
    """
    from lipsync_preprocessing.creation import Creation, create_avatar

    creation = Creation(
        name,
        video,
        audio_encoder,
        work or Path(f"{name}.lipsync"),
        recording,
        chosen_options(resume=True, **chosen),
        rest_loop=loop == "rest",
        tuned=not no_tune,
        models=models,
    )
    with progress_bars() as report:
        create_avatar(repository, creation, report, say)
