"""A few short rows against the ratios that were kept: did a change make the service slower?"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from . import ratios
from .case import WORK, Case, build, speech_file
from .measure import Row, take_turns
from .rows import choose
from .tables import rows_table

KEYS = ("bare", "cached", "triton-grpc-8", "mp4")
SECONDS = 2.56  # of speech: 63 frames
WARM_UP_S = 1.5
TURNS = 3


def measure_quick(case: Case, scratch: Path) -> list[Row]:
    """Measure the guard's rows."""
    rows = choose(case, scratch, SECONDS, KEYS)
    take_turns(rows, TURNS, case, speech_file(WARM_UP_S))
    return rows


@click.command()
@click.option("--width", default=1.0, help="Width of the network; 1 is the true size.")
@click.option("--keep", is_flag=True, help="Keep the ratios of this run in place of the old ones.")
@click.option("--ratios", "path", default=ratios.PATH, type=click.Path(path_type=Path))
def main(width: float, keep: bool, path: Path) -> None:
    """Measure a few short rows and compare them with the ratios that were kept."""
    case = build(width)
    with tempfile.TemporaryDirectory(dir=WORK) as scratch:
        rows = measure_quick(case, Path(scratch))
    click.echo(f"{rows_table(rows)}\n{ratios.compare(path, rows)}")
    if keep:
        ratios.write(path, rows)
