"""The pictures of the page."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from .scaling import Point, Scaling
from .stages import STAGES, Stages

DPI = 110


def plot_stages(measured: dict[str, Stages], path: Path) -> None:
    """A bar for each output, stacked by stage."""
    figure, axes = plt.subplots(figsize=(9, 3.2), layout="constrained")
    left = dict.fromkeys(measured, 0.0)
    for n, stage in enumerate(STAGES):
        widths = [max(stages[stage], 0.0) for stages in measured.values()]
        axes.barh(list(measured), widths, left=list(left.values()), label=stage, color=f"C{n}")
        left = {name: left[name] + w for name, w in zip(measured, widths, strict=True)}
    axes.invert_yaxis()
    axes.set_xlabel("ms a frame, one request at a time")
    axes.legend(ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False, fontsize=8)
    _save(figure, path)


def plot_scaling(scaling: Scaling, path: Path) -> None:
    """Clips at once, frames a request, and seconds of speech, side by side."""
    figure, (clips, chunk, seconds) = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    _pair(clips, scaling["clips"], "clips at once", ("FPS", "fps"), ("p95 ms a request", "p95_ms"))
    _one(chunk, scaling["chunk"], "frames a request", "FPS", "fps")
    _pair(
        seconds, scaling["seconds"], "seconds of speech",
        ("seconds to render", "seconds"), ("client's memory, MB", "client_mb"),
    )  # fmt: skip
    for axes in (clips, chunk):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    _save(figure, path)


def _value(point: Point, name: str) -> float:
    return point.outcome.seconds if name == "seconds" else float(getattr(point, name))


def _one(
    axes: Axes, points: list[Point], x: str, label: str, name: str, colour: str = "C0"
) -> None:
    values = [_value(p, name) for p in points]
    axes.plot([p.x for p in points], values, "o-", color=colour)
    axes.set_xlabel(x)
    axes.set_ylabel(label, color=colour)
    axes.set_ylim(0, 1.1 * max(values))


def _pair(
    axes: Axes, points: list[Point], x: str, left: tuple[str, str], right: tuple[str, str]
) -> None:
    _one(axes, points, x, *left)
    _one(axes.twinx(), points, x, *right, colour="C1")  # type: ignore[arg-type]


def _save(figure: object, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)  # type: ignore[attr-defined]
    plt.close(figure)  # type: ignore[arg-type]
