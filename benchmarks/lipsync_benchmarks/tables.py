"""The measurements as Markdown tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from .measure import Row, Sample
from .rows import SWEPT, PoolSize

# Earlier systems whose design no row has.
EARLIER_ELSEWHERE = ("Go port: 90 FPS, RTX 4090", "iOS app: 48 FPS, Apple")


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Return "median (minimum-maximum)"; a single number alone; a dash if there is none."""
    if not values:
        return "-"
    median = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return median
    return f"{median} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def ratios(row: Row, first: Row) -> list[float]:
    """Return the row's FPS over the first row's in the same turn, for every turn that both have."""
    shared = row.samples.keys() & first.samples.keys()
    return [row.samples[turn].fps / first.samples[turn].fps for turn in sorted(shared)]


def rows_table(rows: list[Row]) -> str:
    """Return the table of all rows; the ratios are to the first."""

    def line(row: Row) -> list[str]:
        samples = list(row.samples.values())
        failed = f" ({len(row.failures)} runs failed: {row.failures[-1]})" if row.failures else ""
        return [
            row.name + failed,
            spread([s.fps for s in samples]),
            spread(ratios(row, rows[0]), 2),
            spread([s.cpu_ms for s in samples]),
            spread([s.peak_mb for s in samples], 0),
            spread([s.outcome.first_frame_s for s in samples], 2),
            spread([s.start_s for s in samples]),
            row.earlier,
        ]

    head = ["", "FPS", "ratio", "CPU ms per frame", "peak MB", "first frame s", "start-up s"]
    text = table([*head, "earlier figure (source)"], [line(row) for row in rows])
    return text + (
        "\nThe earlier figures were reported by others, on the hardware they name, and cannot be compared"
        " with this machine's. Earlier systems without a row: "
        + "; ".join(EARLIER_ELSEWHERE)
        + ".\n"
    )


def network_table(rows: list[Row]) -> str:
    """Return the table of the rows that time each call of the network; the first is the bare session."""

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
            *(f"{x:.5f}" for x in samples[0].outcome.output_statistics or ()),
        ]

    head = ["", "mean", "median", "std", "min", "max", "p95", "p99", "FPS", "total s"]
    outputs = ["output mean", "std", "min", "max"]
    return table([*head, "over the bare session", *outputs], [line(row) for row in rows])


def frame_ms(sample: Sample) -> NDArray[np.float64]:
    """Return the milliseconds per frame of each call, [calls]."""
    return np.array([seconds / frames * 1000 for seconds, frames in sample.outcome.calls])


def sweep_table(fps: dict[PoolSize, float]) -> str:
    """Return the table of the pool of sessions: FPS by workers and batch."""
    head = ["", *(f"batch {batch}" for batch in SWEPT)]
    return table(head, [[f"{w} workers", *(f"{fps[w, b]:.1f}" for b in SWEPT)] for w in SWEPT])
