"""Speed on a machine with an NVIDIA GPU: the network alone, compiled, with TensorRT, and the whole service.

    python loadtests/bench_gpu.py                                                    within 8 minutes
    python loadtests/bench_gpu.py --provider cpu --frames 16 --batches 1,2 --clips 1    without a GPU

Every section has a process and a time of its own: what fails, hangs or is late is named, the rest goes on.
The network has the true size and seeded random weights.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sysconfig
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import click

from .case import ROOT
from .gpu_network import FP16, FP32, POOL, TF32, TRT, Report, Unavailable
from .gpu_sections import KINDS, SECTIONS, Notes, Settings

# The part of the budget by whose end a section is to be done; what it leaves over is the next one's.
DUE = {"machine": 0.05, "plain": 0.35, "compiled": 0.52, "tensorrt": 0.73, "service": 0.95}
LEAST_S = {"tensorrt": 60.0, "service": 45.0}  # not begun with less
GRACE_S, CLOSING_S = 10.0, 3.0


def numbers(_: click.Context, __: click.Parameter, text: str) -> tuple[int, ...]:
    """Whole numbers from 1 with commas."""
    try:
        found = tuple(int(x) for x in text.split(","))
    except ValueError:
        found = (0,)
    if min(found) < 1:
        raise click.BadParameter(f"expected whole numbers from 1 with commas, got {text!r}")
    return found


@click.command()
@click.option("--provider", type=click.Choice(["cuda", "cpu"]), default="cuda")
@click.option("--frames", type=click.IntRange(min=1), default=255, help="Of the clip.")
@click.option("--batches", callback=numbers, default="1,2,4,8,16,32", help="Frames a call.")
@click.option("--clips", callback=numbers, default="1,4,8,16", help="Clips at once.")
@click.option("--width", default=1.0, help="Width of the network; 1 is the true size.")
@click.option(
    "--cudnn-search",
    type=click.Choice(["HEURISTIC", "EXHAUSTIVE", "DEFAULT"]),
    default="HEURISTIC",  # as the service's
    help="How cuDNN chooses its algorithms.",
)
@click.option("--budget-s", type=click.FloatRange(min=1), default=480.0, help="For all of it.")
@click.option(
    "--json", "path", type=click.Path(path_type=Path), default=ROOT / "out/bench-gpu.json"
)
def main(path: Path, **options: object) -> None:
    """Measure, write the JSON, and print a short table last."""
    settings = Settings(**options)  # type: ignore[arg-type]
    if max(settings.batches) > POOL:
        raise click.BadParameter(f"batches: at most {POOL}, got {max(settings.batches)}")
    begun = time.monotonic()
    prepare_environment(settings)
    report: Report = {"settings": asdict(settings), "sections": {}}
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in SECTIONS:
        click.echo(f"{name} ...", err=True)
        found = report["sections"][name] = run_section(name, settings, begun)
        rate(report["sections"], settings)
        report["seconds"] = round(time.monotonic() - begun, 1)
        path.write_text(json.dumps(report, indent=1) + "\n")
        click.echo(f"{name}: {found['status']} {found['reason'] or ''}", err=True)
    click.echo("\n".join(table(report)))
    click.echo(f"{report['seconds']:.0f} s; all figures: {path}")


def prepare_environment(settings: Settings) -> None:
    """What the sections' processes and the server find: CUDA's and TensorRT's wheels, or no GPU at all."""
    packages = Path(sysconfig.get_path("purelib"))
    found = [*packages.glob("nvidia/*/lib"), *packages.glob("tensorrt_libs")]
    inherited = os.environ.get("LD_LIBRARY_PATH", "")
    os.environ["LD_LIBRARY_PATH"] = ":".join(filter(None, [*map(str, sorted(found)), inherited]))
    if settings.provider == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


def run_section(name: str, settings: Settings, begun: float) -> Report:
    """A section's status (done, failed, skipped, stopped), the reason, its seconds and its figures."""
    started = time.monotonic()
    due = begun + settings.budget_s * DUE[name]
    left = due - started
    if left < LEAST_S.get(name, 1.0):
        reason = f"{max(left, 0):.0f} s of the budget are left, it needs {LEAST_S.get(name, 1):.0f}"
        return {"status": "skipped", "reason": reason, "seconds": 0.0, "figures": {}}
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "notes.json"
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=work, args=(name, settings, notes, due))
        process.start()
        process.join(min(due + GRACE_S, begun + settings.budget_s - CLOSING_S) - started)
        late = process.is_alive()
        if late:
            process.kill()  # the server's guard sees to the server
            process.join()
        result: Report = {"status": "failed", "reason": "its process died", "figures": {}}
        if notes.exists():
            result = json.loads(notes.read_text())
    if late:
        result |= {"status": "stopped", "reason": "its time was up; the figures before that stand"}
    elif process.exitcode:
        result |= {"status": "failed", "reason": f"its process ended with {process.exitcode}"}
    return {"seconds": round(time.monotonic() - started, 1)} | result


def work(name: str, settings: Settings, path: Path, due: float) -> None:
    """A section, in its own process."""
    notes = Notes(path, due)
    try:
        SECTIONS[name](settings, notes)
    except Unavailable as e:
        notes.end("skipped", str(e))
    except Exception as e:
        notes.end("failed", f"{type(e).__name__}: {e}")
    else:
        notes.end("done")


def rate(sections: Report, settings: Settings) -> None:
    """Holds the service to the bare network at its best batch, in the precision that the service runs."""
    figures = [sections.get(name, {}).get("figures", {}) for name in ("plain", "service")]
    own = FP32 if settings.provider == "cpu" else TF32
    for feed in ("arrays", "device"):
        bare = [r for r in figures[0].get("rows", []) if (r["precision"], r["feed"]) == (own, feed)]
        best = max((row.get("fps", 0.0) for row in bare), default=0.0)
        for row in figures[1].get("rows", []):
            if best and "fps" in row:
                row[f"ratio_to_bare_{feed}"] = round(row["fps"] / best, 3)


def table(report: Report) -> list[str]:
    """Under 40 lines: FPS, with the arrays' copies / on the device alone."""
    sections, batches = report["sections"], report["settings"]["batches"]
    facts = sections["machine"]["figures"]
    gpus = "; ".join(", ".join(gpu.values()) for gpu in facts.get("gpus", [])) or "no GPU found"
    lines = ["", gpus, facts.get("host", ""), "", "FPS, arrays in and out / on the device"]
    columns = [(s, p) for s in ("plain", "compiled") for p in (FP32, TF32, FP16)]
    columns.insert(3, ("tensorrt", TRT))
    names = [f"{s} {p}" if s != "tensorrt" else p for s, p in columns]
    lines.append("batch" + "".join(f"{name:>18}" for name in names))
    for batch in batches:
        cells = [_cell(sections[s]["figures"].get("rows", []), p, batch) for s, p in columns]
        lines.append(f"{batch:>5}" + "".join(f"{cell:>18}" for cell in cells))
    for name in ("plain", "compiled", "tensorrt"):
        figures = sections[name]["figures"]
        noise = [
            f"{p} {'equal' if x is None else x}" for p, x in figures.get("psnr_db", {}).items()
        ]
        moved = [f"{x} {way}" for way, x in figures.get("bytes_a_frame", {}).items()]
        built = [f"built in {figures['build_s']} s"] if "build_s" in figures else []
        if said := [
            *(f"PSNR dB {x}" for x in noise),
            *(f"bytes a frame {x}" for x in moved),
            *built,
        ]:
            lines.append(f"{name}: {'; '.join(said)}")
    lines += [
        "",
        "service: FPS (of the bare network's best with arrays), CPU ms a frame of the compositor",
    ]
    served = sections["service"]["figures"].get("rows", [])
    for clips in report["settings"]["clips"]:
        cells = [_served(served, kind, clips) for kind in KINDS]
        lines.append(f"{clips:>5} clips" + "".join(f"{cell:>30}" for cell in cells))
    wrong = [f"{k}: {s['status']}: {s['reason']}" for k, s in sections.items() if s["reason"]]
    return [line[:200] for line in [*lines, *wrong]]


def _cell(rows: list[Report], precision: str, batch: int) -> str:
    found = {r["feed"]: r for r in rows if (r["precision"], r["batch"]) == (precision, batch)}
    fps = [found.get(feed, {}).get("fps") for feed in ("arrays", "device")]
    return " / ".join("-" if x is None else f"{x:.1f}" for x in fps) if found else "-"


def _served(rows: list[Report], kind: str, clips: int) -> str:
    row = next((r for r in rows if (r["kind"], r["clips"]) == (kind, clips)), {})
    if "fps" not in row:
        return f"{kind}: {'failed' if 'error' in row else '-'}"
    spent = row["server_cpu_ms_a_frame"].get("demo_compositor", float("nan"))
    return f"{kind}: {row['fps']:.1f} ({row.get('ratio_to_bare_arrays', float('nan')):.2f}), {spent:.2f}"


if __name__ == "__main__":
    main()
