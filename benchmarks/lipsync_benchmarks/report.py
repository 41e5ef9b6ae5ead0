"""The whole benchmark: every row and section, side by side in one run, written as docs/benchmarks.md.

The network has the true size and seeded random weights. Rows take turns, so that a noisy machine is noisy for
all of them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click

from lipsync_client.protocol import SAMPLE_RATE, frame_count
from lipsync_preprocessing.profiles.settings import CPU_PROFILES

from . import ratios
from .case import ROOT, SECONDS, WORK, Case, build, machine, speech_file
from .measure import Setup, serve, take_turns
from .processes import own_mb, processes_by_model
from .quick import WARM_UP_S, measure_quick
from .rows import USUAL_POOL, choose, students_option, sweep
from .tables import network_table, rows_table, sweep_table, table

SWEEP_S = 1.34  # of speech: 32 frames
SESSION_S = 15.0  # of each live session


@dataclass(frozen=True)
class ReportOptions:
    """The options of one run.

    Attributes:
        width: of the network; 1 is the true size.
        seconds: length of the clip.
        turns: number of times that each row runs.
        keys: keys of the rows to run; None for all.
        images: folder for the diagrams.
    """

    width: float
    seconds: float
    turns: int
    keys: list[str] | None
    images: Path


def split(_: click.Context, __: click.Parameter, text: str | None) -> list[str] | None:
    """Return the parts of an option with commas; None if it was not given."""
    return text.split(",") if text else None


@click.command()
@click.option("--sections", callback=split, help="Only these sections, with commas.")
@click.option("--rows", "keys", callback=split, help="Only these rows; the first is the measure.")
@click.option("--turns", default=3, help="Number of times that each row runs.")
@click.option("--width", default=1.0, help="Width of the network; 1 is the true size.")
@click.option("--seconds", default=SECONDS, help="Length of the clip.")
@students_option
@click.option("--keep-ratios", is_flag=True, help="Also measure and keep the ratios of `quick`.")
@click.option("--page", type=click.Path(path_type=Path), help="Write the results to this file.")
def main(
    sections: list[str] | None,
    keys: list[str] | None,
    turns: int,
    width: float,
    seconds: float,
    students: Path | None,
    keep_ratios: bool,
    page: Path | None,
) -> None:
    """Measure everything, print the tables and write the page."""
    if unknown := set(sections or ()) - set(SECTIONS):
        raise click.BadParameter(f"no section {min(unknown)}; there are {', '.join(SECTIONS)}")
    begun = time.perf_counter()
    images = (page.parent if page else ROOT / "out") / "images"
    options = ReportOptions(width, seconds, turns, keys, images)
    case = build(width, students)
    text = f"# Benchmarks\n\n`make bench` wrote this page on {machine()}.\n"
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        scratch = Path(folder)
        for name in sections or SECTIONS:
            text += SECTIONS[name](case, scratch, options)
            if page is not None:  # the sections that are measured stay, even if a later one fails
                page.write_text(text)
        if keep_ratios:
            ratios.write(ratios.PATH, measure_quick(case, scratch))
    click.echo(text)
    click.echo(f"{(time.perf_counter() - begun) / 60:.1f} minutes", err=True)


def rows_section(case: Case, scratch: Path, options: ReportOptions) -> str:
    """Measure the rows, and return their tables."""
    fps, pool = {}, USUAL_POOL
    if options.keys is None or "pool" in options.keys:
        fps = sweep(case, speech_file(SWEEP_S), scratch)
        pool = max(fps, key=lambda size: fps[size])
    rows = choose(case, scratch, options.seconds, options.keys, pool)
    take_turns(rows, options.turns, case, speech_file(WARM_UP_S))
    frames = frame_count(round(options.seconds * SAMPLE_RATE))
    text = f"""
## Against the earlier systems

{frames} frames of 1280x720 ({options.seconds:g} s of speech), network width {options.width:g} (1 is the \
true size) with seeded random weights. These draw noise that no face shows, which costs the H.264 encoder \
more than a face does. Rows took turns ({options.turns}), each in processes of its own, every server started \
anew; medians, with the minimum and the maximum in brackets. The ratio is to the first row of the same turn. \
CPU time and peak memory (USS) are those of all the processes involved, client and server. Every row but the \
first and the network's makes whole frames; the tests hold all of them to the same frames.

{rows_table(rows)}"""
    timed = [row for row in rows if any(s.outcome.output_statistics for s in row.samples.values())]
    if timed:
        text += f"""
### The network alone

Milliseconds per frame, of each call; the statistics of the outputs show that all rows compute the same. \
The server's figures include 2.5 MB in and 1.2 MB out per frame, and the 2 ms for which the batcher waits \
for more requests.

{network_table(timed)}"""
    if fps:
        text += f"""
### Pool of sessions

FPS of 32 frames for each number of workers and batch; the best was measured as a row above.

{sweep_table(fps)}"""
    return text


def scaling_section(case: Case, scratch: Path, options: ReportOptions) -> str:
    """Measure the steps of a request and the scaling with load, and return their tables."""
    from .plots import plot_scaling, plot_steps
    from .scaling import measure_scaling, scaling_tables
    from .steps import measure_steps, steps_table

    with serve(Setup(), case, speech_file(WARM_UP_S)) as (server, _):

        def memory() -> dict[str, float]:
            return {m: sum(map(own_mb, ps)) for m, ps in processes_by_model(server).items()}

        before = memory()
        steps = measure_steps(server, speech_file(options.seconds), scratch)
        scaling = measure_scaling(server, scratch, options.seconds / SECONDS)
        after = memory()
    plot_steps(steps, options.images / "steps.png")
    plot_scaling(scaling, options.images / "scaling.png")
    lines = [[model, f"{before[model]:.0f}", f"{after[model]:.0f}"] for model in sorted(before)]
    return f"""
## Where the time goes

One request at a time, so that the steps add up; from Triton's statistics and the client's clock. MP4, JPEG \
and raw differ in what the compositor makes.

![Steps](images/steps.png)

{steps_table(steps)}
## Scaling

![Scaling](images/scaling.png)

{scaling_tables(scaling)}
Memory of the server's processes (USS, MB), after its first run and after all of the above:

{table(["process", "before", "after"], lines)}"""


def memory_section(case: Case, scratch: Path, _: ReportOptions) -> str:
    """Measure the memory of each process, and its parts."""
    from . import memory

    return memory.memory_section(case, scratch)


def sessions_section(case: Case, _: Path, options: ReportOptions) -> str:
    """Measure the number of live sessions that this machine carries."""
    from . import sessions

    cases = sessions.cases_of(["demo", str(options.width)], list(CPU_PROFILES), case.students)
    return sessions.sessions_section(cases, SESSION_S)


def deployment_section(case: Case, _: Path, __: ReportOptions) -> str:
    """Measure the installation and the start of client and server."""
    command = [sys.executable, str(ROOT / "scripts" / "deployment_cost")]
    command += ["--repository", str(case.repository)]
    return "\n## Deployment\n\n" + subprocess.check_output(command, text=True)


SECTIONS = {
    "rows": rows_section,
    "scaling": scaling_section,
    "memory": memory_section,
    "sessions": sessions_section,
    "deployment": deployment_section,
}
