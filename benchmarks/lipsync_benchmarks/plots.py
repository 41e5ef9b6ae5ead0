"""The diagrams of the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .scaling import Point, Scaling
from .steps import STEPS, StepTimes

DPI = 110
Value = Callable[[Point], float]


def plot_steps(measured: dict[str, StepTimes], path: Path) -> None:
    """Draw a bar for each output, divided into the steps."""
    figure, axes = plt.subplots(figsize=(9, 3.2), layout="constrained")
    left = dict.fromkeys(measured, 0.0)
    for n, step in enumerate(STEPS):
        widths = [max(times[step], 0.0) for times in measured.values()]
        axes.barh(list(measured), widths, left=list(left.values()), label=step, color=f"C{n}")
        left = {name: left[name] + w for name, w in zip(measured, widths, strict=True)}
    axes.invert_yaxis()
    axes.set_xlabel("ms per frame, one request at a time")
    axes.legend(ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False, fontsize=8)
    _save(figure, path)


def plot_scaling(scaling: Scaling, path: Path) -> None:
    """Draw clips at once, frames per request and seconds of speech side by side."""
    figure, (clips, chunk, seconds) = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    for axes, key, label in (
        (clips, "clips", "clips at once"),
        (chunk, "chunk", "frames per request"),
    ):
        _draw(axes, scaling[key], "FPS", lambda point: point.fps)
        axes.set_xlabel(label)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    _draw_right(clips, scaling["clips"], "p95 ms of a request", lambda point: point.p95_ms)
    seconds.set_xlabel("seconds of speech")
    _draw(seconds, scaling["seconds"], "seconds to render", lambda point: point.outcome.seconds)
    _draw_right(seconds, scaling["seconds"], "client's memory, MB", lambda point: point.client_mb)
    _save(figure, path)


def _draw(axes: Axes, points: list[Point], label: str, value: Value, colour: str = "C0") -> None:
    values = [value(point) for point in points]
    axes.plot([point.x for point in points], values, "o-", color=colour)
    axes.set_ylabel(label, color=colour)
    axes.set_ylim(0, 1.1 * max(values))


def _draw_right(axes: Axes, points: list[Point], label: str, value: Value) -> None:
    """Draw with an axis of its own on the right side."""
    right = axes.twinx()
    assert isinstance(right, Axes)
    _draw(right, points, label, value, "C1")


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
