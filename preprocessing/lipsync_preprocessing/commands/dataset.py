"""lipsync-avatar dataset."""

from __future__ import annotations

from pathlib import Path

import click

from lipsync_preprocessing.commands.common import (
    FILE,
    FOLDER,
    errors_in_one_line,
    models_option,
    progress_bars,
    say,
)


@click.command()
@click.argument("video", type=FILE)
@click.option("-o", "--output", type=FOLDER, required=True, help="The new dataset folder.")
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
    help="Scale larger frames down to this height.  [default: their own]",
)
@models_option
@errors_in_one_line
def dataset(
    video: Path,
    output: Path,
    start: float,
    end: float | None,
    height: int | None,
    models: Path | None,
) -> None:
    """Make a dataset folder of VIDEO, in which one person speaks.

    The face is found by MediaPipe's models, which are downloaded with pip on first use. The folder holds
    frames at 25 per second, landmarks, audio.wav, report.html, and in rest/ the rest loop.
    """
    from lipsync_preprocessing.recording import RecordingOptions, make_dataset
    from lipsync_preprocessing.recording.face_models import find_face_models
    from lipsync_preprocessing.recording.video import Part

    if end is not None and end <= start:
        raise click.UsageError(f"--end: expected more than --start, {start:g}, got {end:g}")
    folder = find_face_models(models, lambda line: say(line, err=True))
    options = RecordingOptions(Part(start, end), height)
    with progress_bars() as report:
        made = make_dataset(video, output, folder, options, report)
    for finding in made.findings:
        say(f"warning: {finding}", err=True)
    rest = "no rest loop"
    if made.rest is not None:
        rest = f"a loop of {made.rest.seconds:.1f} s to rest in: {output / 'rest'}"
    say(
        f"{output}: {made.frames} frames of {made.size[0]}x{made.size[1]}, the face in {made.found:.1%};"
        f" {rest}; look at {output / 'report.html'}"
    )
