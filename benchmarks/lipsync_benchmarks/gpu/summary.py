"""The short table that ends a run."""

from __future__ import annotations

from ..service import RESULTS
from .network import FP16, FP32, TF32, TRT
from .timing import Figures


def summary(report: Figures) -> list[str]:
    """Return the report in fewer than 40 lines; FPS are given as "arrays / device"."""
    sections, batches = report["sections"], report["options"]["batches"]
    facts = sections["machine"]["figures"]
    gpus = "; ".join(", ".join(gpu.values()) for gpu in facts.get("gpus", [])) or "no GPU found"
    lines = ["", gpus, facts.get("host", ""), "", "FPS, arrays in and out / on the device"]
    columns = [(s, p) for s in ("plain", "compiled") for p in (FP32, TF32, FP16)]
    columns.insert(3, ("tensorrt", TRT))
    names = [f"{s} {p}" if s != "tensorrt" else p for s, p in columns]
    lines.append("batch" + "".join(f"{name:>18}" for name in names))
    for batch in batches:
        cells = [
            _network_cell(sections[s]["figures"].get("rows", []), p, batch) for s, p in columns
        ]
        lines.append(f"{batch:>5}" + "".join(f"{cell:>18}" for cell in cells))
    for name in ("plain", "compiled", "tensorrt"):
        if facts_line := "; ".join(_section_facts(sections[name]["figures"])):
            lines.append(f"{name}: {facts_line}")
    lines += [
        "",
        "service: FPS (ratio to the bare network's best with arrays), CPU ms per frame of the compositor",
    ]
    served = sections["service"]["figures"].get("rows", [])
    for clips in report["options"]["clips"]:
        cells = [_service_cell(served, result, clips) for result in RESULTS]
        lines.append(f"{clips:>5} clips" + "".join(f"{cell:>30}" for cell in cells))
    wrong = [f"{k}: {s['status']}: {s['reason']}" for k, s in sections.items() if s["reason"]]
    return [line[:200] for line in [*lines, *wrong]]


def _section_facts(figures: Figures) -> list[str]:
    psnr = [f"{p} {'equal' if x is None else x}" for p, x in figures.get("psnr_db", {}).items()]
    moved = [f"{x} {way}" for way, x in figures.get("bytes_per_frame", {}).items()]
    built = [f"built in {figures['build_s']} s"] if "build_s" in figures else []
    return [*(f"PSNR dB {x}" for x in psnr), *(f"bytes per frame {x}" for x in moved), *built]


def _network_cell(rows: list[Figures], precision: str, batch: int) -> str:
    found = {r["feed"]: r for r in rows if (r["precision"], r["batch"]) == (precision, batch)}
    fps = [found.get(feed, {}).get("fps") for feed in ("arrays", "device")]
    return " / ".join("-" if x is None else f"{x:.1f}" for x in fps) if found else "-"


def _service_cell(rows: list[Figures], result: str, clips: int) -> str:
    row: Figures = next((r for r in rows if (r["result"], r["clips"]) == (result, clips)), {})
    if "fps" not in row:
        return f"{result}: {'failed' if 'error' in row else '-'}"
    spent = row["server_cpu_ms_per_frame"].get("demo_compositor", float("nan"))
    ratio = row.get("ratio_to_bare_arrays", float("nan"))
    return f"{result}: {row['fps']:.1f} ({ratio:.2f}), {spent:.2f}"
