"""Run the sections in turn, each in a process and with a time of its own.

A section that fails, hangs or is late is named, and the others go on. The network has the true size and
seeded random weights.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sysconfig
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import click

from ..case import ROOT
from .network import FP32, POOL, TF32, Provider, Unavailable
from .record import GpuOptions, SectionRecord
from .sections import compiled_section, machine_section, plain_section, tensorrt_section
from .service import service_section
from .summary import summary
from .timing import Figures

SECTIONS: dict[str, Callable[[GpuOptions, SectionRecord], None]] = {
    "machine": machine_section,
    "plain": plain_section,
    "compiled": compiled_section,
    "tensorrt": tensorrt_section,
    "service": service_section,
}
# The share of the budget by whose end a section should be done; the next one gets the time it leaves.
DUE = {"machine": 0.05, "plain": 0.35, "compiled": 0.52, "tensorrt": 0.73, "service": 0.95}
LEAST_S = {"tensorrt": 60.0, "service": 45.0}  # a section with less time than this is skipped
GRACE_S, CLOSING_S = 10.0, 3.0


def numbers(_: click.Context, __: click.Parameter, text: str) -> tuple[int, ...]:
    """Return the numbers of an option, which are whole, from 1 and separated by commas."""
    try:
        found = tuple(int(x) for x in text.split(","))
    except ValueError:
        found = (0,)
    if min(found) < 1:
        raise click.BadParameter(f"expected whole numbers from 1 with commas, got {text!r}")
    return found


@click.command()
@click.option("--provider", type=click.Choice(["cuda", "cpu"]), default="cuda")
@click.option("--frames", type=click.IntRange(min=1), default=255, help="Frames of the clip.")
@click.option("--batches", callback=numbers, default="1,2,4,8,16,32", help="Frames per call.")
@click.option("--clips", callback=numbers, default="1,4,8,16", help="Clips at once.")
@click.option("--width", default=1.0, help="Width of the network; 1 is the true size.")
@click.option(
    "--cudnn-search",
    type=click.Choice(["HEURISTIC", "EXHAUSTIVE", "DEFAULT"]),
    default="HEURISTIC",  # as in the service
    help="The way in which cuDNN chooses its algorithms.",
)
@click.option(
    "--budget-s", type=click.FloatRange(min=1), default=480.0, help="Time for all sections."
)
@click.option(
    "--json", "path", type=click.Path(path_type=Path), default=ROOT / "out/bench-gpu.json"
)
def main(
    provider: Provider,
    frames: int,
    batches: tuple[int, ...],
    clips: tuple[int, ...],
    width: float,
    cudnn_search: str,
    budget_s: float,
    path: Path,
) -> None:
    """Measure, write the JSON file, and print a short table at the end."""
    options = GpuOptions(provider, frames, batches, clips, width, cudnn_search, budget_s)
    if max(batches) > POOL:
        raise click.BadParameter(f"batches: at most {POOL}, got {max(batches)}")
    begun = time.monotonic()
    prepare_environment(provider)
    report: Figures = {"options": asdict(options), "sections": {}}
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in SECTIONS:
        click.echo(f"{name} ...", err=True)
        section = report["sections"][name] = run_section(name, options, begun)
        add_ratios(report["sections"], provider)
        report["seconds"] = round(time.monotonic() - begun, 1)
        path.write_text(json.dumps(report, indent=1) + "\n")
        click.echo(f"{name}: {section['status']} {section['reason'] or ''}", err=True)
    click.echo("\n".join(summary(report)))
    click.echo(f"{report['seconds']:.0f} s; all figures: {path}")


def prepare_environment(provider: Provider) -> None:
    """Let the sections and the server find CUDA's and TensorRT's wheels, or no GPU at all."""
    packages = Path(sysconfig.get_path("purelib"))
    found = [*packages.glob("nvidia/*/lib"), *packages.glob("tensorrt_libs")]
    inherited = os.environ.get("LD_LIBRARY_PATH", "")
    os.environ["LD_LIBRARY_PATH"] = ":".join(filter(None, [*map(str, sorted(found)), inherited]))
    if provider == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


def run_section(name: str, options: GpuOptions, begun: float) -> Figures:
    """Run a section; return its status (done, failed, skipped or stopped), reason, seconds and figures."""
    started = time.monotonic()
    due = begun + options.budget_s * DUE[name]
    left = due - started
    if left < LEAST_S.get(name, 1.0):
        reason = f"{max(left, 0):.0f} s of the budget are left, it needs {LEAST_S.get(name, 1):.0f}"
        return {"status": "skipped", "reason": reason, "seconds": 0.0, "figures": {}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record.json"
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=work, args=(name, options, path, due))
        process.start()
        process.join(min(due + GRACE_S, begun + options.budget_s - CLOSING_S) - started)
        late = process.is_alive()
        if late:
            process.kill()  # the server's guard then ends the server
            process.join()
        result: Figures = {"status": "failed", "reason": "its process died", "figures": {}}
        if path.exists():
            result = json.loads(path.read_text())
    if late:
        result |= {"status": "stopped", "reason": "its time was up; the figures before that stand"}
    elif process.exitcode:
        result |= {"status": "failed", "reason": f"its process ended with {process.exitcode}"}
    return {"seconds": round(time.monotonic() - started, 1)} | result


def work(name: str, options: GpuOptions, path: Path, due: float) -> None:
    """Run a section in its own process."""
    record = SectionRecord(path, due)
    try:
        SECTIONS[name](options, record)
    except Unavailable as e:
        record.finish("skipped", str(e))
    except Exception as e:
        record.finish("failed", f"{type(e).__name__}: {e}")
    else:
        record.finish("done")


def add_ratios(sections: Figures, provider: Provider) -> None:
    """Add the service's ratio to the bare network at its best batch, in the service's precision."""
    figures = [sections.get(name, {}).get("figures", {}) for name in ("plain", "service")]
    own = FP32 if provider == "cpu" else TF32
    for feed in ("arrays", "device"):
        bare = [r for r in figures[0].get("rows", []) if (r["precision"], r["feed"]) == (own, feed)]
        best = max((row.get("fps", 0.0) for row in bare), default=0.0)
        for row in figures[1].get("rows", []):
            if best and "fps" in row:
                row[f"ratio_to_bare_{feed}"] = round(row["fps"] / best, 3)
