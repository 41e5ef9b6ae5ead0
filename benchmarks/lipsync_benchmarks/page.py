"""Speed of the service against every earlier system around its model, side by side in one run.

    python loadtests/bench.py [--page docs/benchmarks.md]     the whole of it, half an hour on 2 cores
    python loadtests/bench.py --rows bare,mp4 --pairs 1       some rows
    python loadtests/bench.py --quick                         ratios against loadtests/ratios.json

The network has the true size and seeded random weights. Rows take turns, so that a noisy machine is noisy
for all.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from lipsync_client.protocol import SAMPLE_RATE, frame_count

from . import quick as bench_quick
from .case import ROOT, SECONDS, WORK, Case, build, machine, speech_file
from .measure import ONNXRUNTIME, Row, memory_by_model, running, take_turns
from .report import network_table, rows_table, sweep_table, table
from .rows import Best, all_rows, pool_row, sweep

WARM_UP_S, SWEEP_S = 1.5, 1.34  # the latter makes 32 frames
POOL: Best = (4, 1)  # where no sweep has found the best
RATIOS = ROOT / "benchmarks" / "ratios.json"


@click.command()
@click.option("--pairs", default=3, help="Turns: times each row runs.")
@click.option(
    "--rows", "keys", help="Keys of the rows to run, with commas; the first is the measure."
)
@click.option("--width", default=1.0, help="Width of the network; 1 is the true size.")
@click.option("--seconds", default=SECONDS, help="Length of the clip.")
@click.option("--extras/--no-extras", default=True, help="Stages, scaling and memory, too.")
@click.option("--quick", is_flag=True, help="A few short rows, against the ratios that were kept.")
@click.option("--keep-ratios", is_flag=True, help="Run the quick rows and keep their ratios.")
@click.option("--ratios", default=RATIOS, type=click.Path(path_type=Path), help="Where they are.")
@click.option("--deployment", is_flag=True, help="Measure the cost of deployment, too (minutes).")
@click.option(
    "--page", type=click.Path(path_type=Path), help="Write the results here, as Markdown."
)
def main(
    pairs: int,
    keys: str | None,
    width: float,
    seconds: float,
    extras: bool,
    quick: bool,
    keep_ratios: bool,
    ratios: Path,
    deployment: bool,
    page: Path | None,
) -> None:
    """Measure, print the tables, and write the page."""
    begun = time.perf_counter()
    case = build(width)
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        scratch = Path(folder)
        if quick:
            rows = run_quick(case, scratch)
            text = f"{rows_table(rows)}\n{bench_quick.compare(ratios, rows)}"
        else:
            chosen = keys.split(",") if keys else None
            sections = [lambda: full(case, scratch, width, seconds, pairs, chosen)]
            if extras:
                sections.append(lambda: stages_and_scaling(case, scratch, page, seconds))
            if deployment:
                sections.append(lambda: deployment_cost(case))
            text = ""
            for section in sections:
                text += section()
                if page is not None:  # what is measured stays, whatever becomes of the rest
                    page.write_text(text)
        if keep_ratios:
            bench_quick.write(ratios, rows if quick else run_quick(case, scratch))
    click.echo(text)
    click.echo(f"{(time.perf_counter() - begun) / 60:.1f} minutes", err=True)


def run_quick(case: Case, scratch: Path) -> list[Row]:
    """The guard's rows."""
    rows = choose(case, scratch, bench_quick.SECONDS, list(bench_quick.KEYS))
    take_turns(rows, bench_quick.TURNS, case, speech_file(WARM_UP_S))
    return rows


def choose(
    case: Case, scratch: Path, seconds: float, keys: list[str] | None, best: Best = POOL
) -> list[Row]:
    """The rows of these keys, in their order; all of them for None."""
    speech = speech_file(seconds)
    rows = all_rows(case, speech, frame_count(round(seconds * SAMPLE_RATE)), scratch)
    rows.insert(4, pool_row(case, speech, scratch, best))
    if keys is None:
        return rows
    if unknown := set(keys) - {row.key for row in rows}:
        known = ", ".join(row.key for row in rows)
        raise click.BadParameter(f"no row {', '.join(sorted(unknown))}; there are {known}")
    return [row for row in rows if row.key in keys]


def full(
    case: Case, scratch: Path, width: float, seconds: float, pairs: int, keys: list[str] | None
) -> str:
    """The rows' tables."""
    fps = {} if keys and "pool" not in keys else sweep(case, speech_file(SWEEP_S), scratch)
    best = max(fps, key=lambda settings: fps[settings], default=POOL)
    rows = choose(case, scratch, seconds, keys, best)
    take_turns(rows, pairs, case, speech_file(WARM_UP_S))
    frames = frame_count(round(seconds * SAMPLE_RATE))
    text = f"""# Benchmarks

`make bench` wrote this page on {machine()}.

## Against the earlier systems

{frames} frames of 1280x720 ({seconds:g} s of speech), network width {width:g} (1 is the true size) \
with seeded random weights, which draw noise no face shows and so cost the H.264 encoder more than one. \
Rows took turns ({pairs}), each in processes of its own, every server started anew; medians, with the \
least and the most in brackets. The ratio is to the first row of the same turn. CPU time and peak memory \
(USS) are those of all the processes involved, client and server. Every row but the first and the \
network's makes whole frames; the tests hold all of them to the same pictures.

{rows_table(rows)}"""
    clocked = [row for row in rows if any(s.outcome.numbers for s in row.samples.values())]
    if clocked:
        text += f"""
### The network alone

ms a frame, of each call; the numbers of the outputs beside them show that all compute the same. The \
server's figures hold 2.5 MB in and 1.2 MB out a frame, and the batcher's 2 ms wait for company.

{network_table(clocked)}"""
    if fps:
        text += f"""
### Pool of sessions

FPS of 32 frames for each setting; the best ran whole, above.

{sweep_table(fps)}"""
    return text


def deployment_cost(case: Case) -> str:
    """What it takes to install and start the client and the server."""
    command = [sys.executable, str(ROOT / "scripts" / "deployment_cost")]
    command += ["--repository", str(case.repository)]
    return "\n## Deployment\n\n" + subprocess.check_output(command, text=True)


def stages_and_scaling(case: Case, scratch: Path, page: Path | None, seconds: float) -> str:
    """Where time goes, and what changes with load; with pictures beside the page."""
    from . import scaling as bench_scaling
    from . import stages as bench_stages
    from .plots import plot_scaling, plot_stages

    images = (page.parent if page else ROOT / "out") / "images"
    with running(ONNXRUNTIME, case, speech_file(WARM_UP_S)) as (server, _):
        before = memory_by_model(server)
        stages = bench_stages.measure_stages(server, speech_file(seconds), scratch)
        scaling = bench_scaling.measure_scaling(server, scratch, seconds / SECONDS)
        after = memory_by_model(server)
    plot_stages(stages, images / "stages.png")
    plot_scaling(scaling, images / "scaling.png")
    memory = [[name, f"{before[name]:.0f}", f"{after[name]:.0f}"] for name in sorted(before)]
    return f"""
## Where the time goes

One request at a time, so that the stages add up; Triton's statistics and the client's clock. MP4, JPEG and \
raw differ in what the compositor makes.

![Stages](images/stages.png)

{bench_stages.stages_table(stages)}
## Scaling

![Scaling](images/scaling.png)

{bench_scaling.scaling_tables(scaling)}
Memory of the server's processes (USS, MB), after its first run and after all of the above:

{table(["process", "before", "after"], memory)}"""


if __name__ == "__main__":
    main()
