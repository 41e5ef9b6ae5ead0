"""lipsync-avatar add."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Literal

import click

from lipsync_preprocessing.commands.common import (
    FILE,
    FOLDER,
    model_control,
    progress_bars,
    repository_option,
    say,
    server_options,
)
from lipsync_preprocessing.errors import AvatarError


@click.command()
@click.argument("name")
@click.option("--dataset", type=FOLDER, required=True, help="Dataset folder, raw or packaged.")
@click.option("--generator", type=FILE, required=True, help="99.onnx or 99.pth.")
@click.option("--audio-encoder", type=FILE, required=True, help="Its ONNX file or checkpoint.")
@click.option("--raw", is_flag=True, help="Serve the plain network too, as NAME_raw.")
@click.option("--no-parsing", is_flag=True, help="Ignore the dataset's parsing masks.")
@click.option(
    "--frames",
    metavar="NAME",
    help="Video or folder in the dataset to take the frames from.  [default: what there is]",
)
@click.option(
    "--rectangles",
    metavar="NAME",
    help="Folder or file in the dataset to take the face rectangles from.  [default: what there is]",
)
@click.option(
    "--landmark-points",
    type=click.Choice(["110", "98", "68"]),
    default="110",
    help="Lines of a landmark file: 110 of the training code's detector, 98 of WFLW, 68 of iBUG.",
)
@click.option(
    "--pairing",
    type=click.Choice(["number", "order"]),
    help="Whether frames and rectangles of equal number or of equal place belong together.",
)
@click.option(
    "--frame-rate",
    callback=lambda _context, _parameter, value: _rate(value),
    metavar="FPS",
    help="The frames' own rate; they are resampled to 25.  [default: a video's own, or 25]",
)
@click.option("--feather", type=float, metavar="PX", help="Soft edge of the paste, pixels of 320.")
@click.option("--colour-match", is_flag=True, help="Match the patch's colour to the original rim.")
@click.option(
    "--silence-gate",
    type=float,
    metavar="DB",
    help="Below this level (of full scale, such as -45) the mouth eases to the avatar's own frame.",
)
@click.option(
    "--silence-after", type=float, metavar="S", help="... this far from any louder audio."
)
@click.option("--load", is_flag=True, help="Load it into the running server at --url.")
@server_options
@repository_option
def add(
    repository: Path,
    name: str,
    dataset: Path,
    generator: Path,
    audio_encoder: Path,
    raw: bool,
    no_parsing: bool,
    frames: str | None,
    rectangles: str | None,
    landmark_points: str,
    pairing: Literal["number", "order"] | None,
    frame_rate: Fraction | None,
    feather: float | None,
    colour_match: bool,
    silence_gate: float | None,
    silence_after: float | None,
    load: bool,
    url: str | None,
    admin_key: str | None,
) -> None:
    """Add the avatar NAME, made from a dataset, its generator and the audio encoder."""
    from lipsync_preprocessing.avatar import add_avatar, models_of
    from lipsync_preprocessing.dataset import DatasetOptions
    from lipsync_preprocessing.repository import RAW, Repository
    from lipsync_preprocessing.repository.configs import PasteOptions

    control = model_control(url, admin_key) if load else None
    paste = PasteOptions(feather, colour_match, silence_gate, silence_after)
    options = DatasetOptions(
        not no_parsing, frames, rectangles, int(landmark_points), pairing, frame_rate
    )
    with progress_bars() as report:
        made = add_avatar(
            repository,
            name,
            dataset,
            generator,
            audio_encoder,
            raw=raw,
            options=options,
            paste=paste,
            report=report,
        )
    say(
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
        say(f"{name}: loaded at {url}")


def _rate(text: str | None) -> Fraction | None:
    """Return a rate such as 30, 29.97 or 30000/1001."""
    try:
        return None if text is None else Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise click.BadParameter(
            f"expected a number such as 30 or 30000/1001, got {text!r}"
        ) from error
