"""Build the demo avatar into model_repository/: draw it, and import it with its trained networks.

python examples/demo/build.py [--repository DIR] [--force]
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

import click
import draw

from lipsync_preprocessing.avatar import fill_template

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WEIGHTS = HERE / "weights"
WORK = ROOT / "build" / "demo"
NAME = "demo"


@click.command()
@click.option("--repository", type=click.Path(path_type=Path), default=ROOT / "model_repository")
@click.option("--force", is_flag=True, help="Build again even if nothing changed.")
def main(repository: Path, force: bool) -> None:
    """Draw the demo avatar and import it into the model repository."""
    pack = repository / f"{NAME}_compositor/1/frames.npz"
    drawn, built = WORK / "drawn-from", pack.with_name("built-from")
    drawing, sources = (
        _digest(HERE.glob("*.py")),
        _digest([*HERE.glob("*.py"), *WEIGHTS.glob("*.onnx")]),
    )
    if not force and pack.exists() and _matches(built, sources):
        click.echo("the demo avatar is built already")
        return
    if force or not _matches(drawn, drawing):
        shutil.rmtree(WORK, ignore_errors=True)
        WORK.mkdir(parents=True)
        click.echo("drawing the demo avatar (about half a minute) ...")
        draw.write_dataset(WORK / "dataset")
        drawn.write_text(drawing)
    click.echo("importing it ...")
    generator, encoder = WEIGHTS / "generator.onnx", WEIGHTS / "audio_encoder.onnx"
    fill_template(repository, NAME, WORK / "dataset", generator, encoder)
    built.write_text(sources)


def _matches(stamp: Path, digest: str) -> bool:
    return stamp.exists() and stamp.read_text() == digest


def _digest(paths: Iterable[Path]) -> str:
    """Return a digest of the sources, so that the result is built again when they change."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
