"""The measurements as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

import numpy as np

from .measure import Row, Sample
from .rows import EARLIER_ELSEWHERE, SWEPT, Best


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median (least-most); the number alone if there is one only, a dash if there is none."""
    if not values:
        return "-"
    middle = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def ratios(row: Row, first: Row) -> list[float]:
    """FPS over the first row's of the same turn."""
    shared = row.samples.keys() & first.samples.keys()
    return [row.samples[turn].fps / first.samples[turn].fps for turn in sorted(shared)]


def rows_table(rows: list[Row]) -> str:
    """All rows; the first is what the others are held to."""

    def line(row: Row) -> list[str]:
        samples = list(row.samples.values())

        def of(number: str, digits: int = 1) -> str:
            return spread([getattr(sample, number) for sample in samples], digits)

        failed = f" ({len(row.failures)} runs failed: {row.failures[-1]})" if row.failures else ""
        return [
            row.name + failed,
            of("fps"),
            spread(ratios(row, rows[0]), 2),
            of("cpu_ms"),
            of("peak_mb", 0),
            spread([s.outcome.first_frame_s for s in samples], 2),
            of("start_s"),
            row.earlier,
        ]

    head = ["", "FPS", "ratio", "CPU ms a frame", "peak MB", "first frame s", "start-up s"]
    text = table([*head, "earlier figure (source)"], [line(row) for row in rows])
    return text + (
        "\nThe earlier figures were taken by others on the hardware they name: they tell what those systems"
        " were said to do, and are not comparable with this machine's. Those without a row of their own: "
        + "; ".join(EARLIER_ELSEWHERE)
        + ".\n"
    )


def network_table(rows: list[Row]) -> str:
    """The rows that clock each call of the network; the first is the bare session."""

    def mean(sample: Sample) -> float:
        return float(np.mean(frame_ms(sample)))

    bare = rows[0].samples

    def line(row: Row) -> list[str]:
        samples = list(row.samples.values())
        ms = np.concatenate([frame_ms(sample) for sample in samples])
        middle = [ms.mean(), np.median(ms), ms.std(), ms.min(), ms.max()]
        tail = [np.percentile(ms, 95), np.percentile(ms, 99)]
        over = [mean(s) - mean(bare[turn]) for turn, s in row.samples.items() if turn in bare]
        return [
            row.name,
            *(f"{x:.1f}" for x in (*middle, *tail)),
            spread([s.fps for s in samples]),
            spread([s.outcome.seconds for s in samples]),
            "" if row is rows[0] else spread(over),
            *(f"{x:.5f}" for x in samples[0].outcome.numbers or ()),
        ]

    head = ["", "mean", "median", "std", "min", "max", "p95", "p99", "FPS", "total s"]
    outputs = ["output mean", "std", "min", "max"]
    return table([*head, "over the bare session", *outputs], [line(row) for row in rows])


def frame_ms(sample: Sample) -> np.ndarray:
    """ms a frame of each call, float64 [calls]."""
    return np.array([seconds / frames * 1000 for seconds, frames in sample.outcome.calls])


def sweep_table(fps: dict[Best, float]) -> str:
    head = ["", *(f"batch {batch}" for batch in SWEPT)]
    return table(head, [[f"{w} workers", *(f"{fps[w, b]:.1f}" for b in SWEPT)] for w in SWEPT])
