"""lipsync-avatar dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lipsync_preprocessing.commands.common import (
    FILE,
    FOLDER,
    models_option,
    progress_bars,
    recording_options,
    say,
)

if TYPE_CHECKING:
    from lipsync_preprocessing.recording import RecordingOptions


@click.command()
@click.argument("video", type=FILE)
@click.option("-o", "--output", type=FOLDER, required=True, help="The new dataset folder.")
@recording_options
@models_option
def dataset(
    video: Path,
    output: Path,
    recording: RecordingOptions,
    models: Path | None,
) -> None:
    """Make a dataset folder of VIDEO, in which one person speaks.

    The face is found by MediaPipe's models, which are downloaded with pip on first use. The folder holds
    frames at 25 per second, landmarks, audio.wav, report.html, and in rest/ the rest loop.
    """
    from lipsync_preprocessing.recording import make_dataset
    from lipsync_preprocessing.recording.face_models import find_face_models

    folder = find_face_models(models, lambda line: say(line, err=True))
    with progress_bars() as report:
        made = make_dataset(video, output, folder, recording, report)
    for finding in made.findings:
        say(f"warning: {finding}", err=True)
    rest = "no rest loop"
    if made.rest is not None:
        rest = f"a loop of {made.rest.seconds:.1f} s to rest in: {output / 'rest'}"
    say(
        f"{output}: {made.frames} frames of {made.size[0]}x{made.size[1]}, the face in {made.found:.1%};"
        f" {rest}; look at {output / 'report.html'}"
    )
