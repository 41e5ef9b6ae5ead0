"""lipsync-avatar train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lipsync_preprocessing.commands.common import (
    FILE,
    FOLDER,
    errors_in_one_line,
    progress_bars,
    say,
)

if TYPE_CHECKING:
    from lipsync_preprocessing.training.train import TrainingOptions

_WIDTHS = {"full": 1.0, "mobile": 0.5}


def training_options(command: Any) -> Any:
    """Add the options of a training, which `chosen_options` takes."""
    for option in (
        click.option(
            "--patience",
            type=click.IntRange(0),
            default=4,
            help="Checkpoints without a better held-out sync before it ends; 0 never ends early.",
        ),
        click.option(
            "--sync-steps",
            type=click.IntRange(0),
            default=800,
            help="Steps of the sync network; 0 leaves the sync loss out.",
        ),
        course_options,
        click.option(
            "--width",
            default="full",
            metavar="full|mobile|FACTOR",
            callback=lambda _context, _parameter, value: _width(value),
            help="Size of the network; mobile has half of the channels.",
        ),
    ):
        command = option(command)
    return command


def course_options(command: Any) -> Any:
    """Add the options of a training's course: steps, looks, device."""
    for option in reversed(
        [
            click.option(
                "--crops",
                type=click.IntRange(0),
                default=3500,
                help="Steps on crops about the mouth.",
            ),
            click.option(
                "--steps", type=click.IntRange(1), default=1300, help="Steps on whole faces."
            ),
            click.option(
                "--crop-batch", type=click.IntRange(1), default=8, help="Crops in a step."
            ),
            click.option("--batch", type=click.IntRange(1), default=4, help="Faces in a step."),
            click.option(
                "--audio-steps",
                type=click.IntRange(0),
                default=1000,
                help="Steps of the audio branch alone, before.",
            ),
            click.option(
                "--every",
                type=click.IntRange(1),
                default=250,
                help="Steps between two checkpoints.",
            ),
            click.option(
                "--device",
                type=click.Choice(["auto", "cpu", "cuda"]),
                default="auto",
                help="Device.",
            ),
            click.option(
                "--threads",
                type=click.IntRange(1),
                metavar="N",
                help="Threads on the CPU; 1 is faster on a busy machine.  [default: one for each core]",
            ),
            click.option(
                "--precision",
                type=click.Choice(["auto", "bf16", "fp16", "fp32"]),
                default="auto",
                help="Format of the products.",
            ),
        ]
    ):
        command = option(command)
    return command


def chosen_options(*, resume: bool, **chosen: Any) -> TrainingOptions:
    """Return the options that `training_options` parsed."""
    from lipsync_preprocessing.training.loop import LoopSettings
    from lipsync_preprocessing.training.train import TrainingOptions

    course = {name: chosen.pop(name) for name in ("crops", "steps", "crop_batch", "batch")}
    return TrainingOptions(loop=LoopSettings(decay=0.5, **course), resume=resume, **chosen)


@click.command()
@click.argument("dataset", type=FOLDER)
@click.option("--audio-encoder", type=FILE, required=True, help="Its ONNX file or checkpoint.")
@click.option("-o", "--output", type=FILE, required=True, help="The checkpoint to write, a .pth.")
@click.option(
    "--audio", type=FILE, help="The dataset's speech.  [default: audio.wav or aud.wav in it]"
)
@click.option("--resume", is_flag=True, help="Go on with an interrupted training.")
@training_options
@errors_in_one_line
def train(
    dataset: Path,
    audio_encoder: Path,
    output: Path,
    audio: Path | None,
    resume: bool,
    **chosen: Any,
) -> None:
    """Train the generator of the dataset folder DATASET; write its checkpoint and its card.

    NAME.training, beside NAME.pth, holds samples.png and log.csv, and what an interrupted training goes on
    from.
    """
    from lipsync_preprocessing.training.train import train_generator

    options = chosen_options(resume=resume, **chosen)
    with progress_bars() as report:
        card = train_generator(
            dataset, audio_encoder, output, options, audio=audio, report=report, say=_say_progress
        )
    for line in card.lines():
        say(line)
    say(f"{output}: written, with {output.with_suffix('.card.json').name}")


def _say_progress(line: str) -> None:
    say(line, err=True)


def _width(text: str) -> float:
    try:
        width = _WIDTHS[text] if text in _WIDTHS else float(text)
    except ValueError:
        width = 0.0
    if not 1 / 16 <= width <= 1:
        raise click.BadParameter(
            f"expected full, mobile or a factor from 0.0625 to 1, got {text!r}"
        )
    return width
