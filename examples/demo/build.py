"""Builds the demo avatar into model_repository/: draws it, makes its networks, imports both.

python examples/demo/build.py [--repository DIR] [--force]
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import click
import draw
import handmade
from lipsync_preprocessing.avatar import fill_template

ROOT = Path(__file__).resolve().parents[2]
NAME = "demo"


@click.command()
@click.option("--repository", type=click.Path(path_type=Path), default=ROOT / "model_repository")
@click.option("--force", is_flag=True, help="Build again even if nothing changed.")
def main(repository: Path, force: bool) -> None:
    """Draw the demo avatar and import it into the model repository."""
    work = ROOT / "build" / "demo"
    stamp = work / "built-from"
    sources = _digest()
    pack = repository / f"{NAME}_compositor" / "1" / "frames.npz"
    if not force and pack.exists() and stamp.exists() and stamp.read_text() == sources:
        click.echo("the demo avatar is built already")
        return
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    click.echo("drawing the demo avatar (about half a minute) ...")
    draw.write_dataset(work / "dataset")
    generator, encoder = handmade.write_models(work / "models")
    click.echo("importing it ...")
    fill_template(repository, NAME, work / "dataset", generator, encoder)
    stamp.write_text(sources)


def _digest() -> str:
    """Of all this is made from, so that a changed drawing is drawn again."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
