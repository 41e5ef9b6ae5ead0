"""The figures of a run as plain data: for the report, for files and for the exit code."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict, dataclass, field
from typing import Any

from lipsync_client.protocol import FPS

from .failures import LATE
from .knee import Step
from .server_metrics import ModelLoad
from .tally import CHUNKS, FIRST, LIVE, REQUESTS, Tally, TallyRow, percentiles


@dataclass(frozen=True)
class EventFigures:
    """The figures of one kind of event; times in milliseconds.

    Attributes:
        type, name: Locust's.
        kind: one of tally's.
        fps: frames per second of the run.
        clip_realtime_factor: seconds of video per second while a clip was rendered; None for other events.
    """

    type: str
    name: str
    kind: str
    succeeded: int
    failed: int
    frames: int
    fps: float
    clip_realtime_factor: float | None
    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True)
class FailureFigures:
    """The failures of one kind of event for one reason, and one of their messages."""

    type: str
    name: str
    reason: str
    count: int
    example: str


@dataclass
class LoadTestSummary:
    """The figures of a run; times in milliseconds.

    Attributes:
        fps: frames per second that came in time, all users together.
        realtime_factor: seconds of video per second, all users together.
        failure_ratio: share of all requests that failed for another reason than lateness.
        late_ratio: share of the live chunks that were late; None if there were none.
        server_note: the reason why there are no figures of the server; empty if there are.
    """

    elapsed_s: float
    frames: int
    fps: float
    realtime_factor: float
    requests: int
    failure_ratio: float
    late_ratio: float | None
    chunk_ms: dict[str, float | None]
    first_frame_ms: dict[str, float | None]
    rows: list[EventFigures]
    failures: list[FailureFigures]
    server: list[ModelLoad] = field(default_factory=list)
    server_note: str = ""
    steps: list[Step] = field(default_factory=list)
    knee: str = ""
    settings: dict[str, str | float] = field(default_factory=dict)
    broken_limits: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for a JSON file."""
        return asdict(self)


def summarise(tally: Tally, elapsed_s: float) -> LoadTestSummary:
    """Return the figures of a tally that was filled in `elapsed_s` seconds."""
    seconds = max(elapsed_s, 1e-9)
    live = sum(row.succeeded + row.failed for row in tally.of(LIVE))
    rows = sorted(tally.rows.items())
    return LoadTestSummary(
        elapsed_s=elapsed_s,
        frames=tally.frames,
        fps=tally.frames / seconds,
        realtime_factor=tally.frames / seconds / FPS,
        requests=tally.requests,
        failure_ratio=failure_ratio(tally.of(*REQUESTS)),
        late_ratio=late_ratio(tally) if live else None,
        chunk_ms=_named(percentiles(tally.of(*CHUNKS))),
        first_frame_ms=_named(percentiles(tally.of(FIRST))),
        rows=[_figures(type_, name, row, seconds) for (type_, name), row in rows],
        failures=[
            FailureFigures(type_, name, reason, count, row.examples[reason])
            for (type_, name), row in rows
            for reason, count in row.reasons.most_common()
        ],
    )


def _figures(type_: str, name: str, row: TallyRow, seconds: float) -> EventFigures:
    p50, p95, p99 = percentiles([row])
    factor = row.clip_frames / FPS / row.seconds if row.clip_frames and row.seconds else None
    return EventFigures(
        type_,
        name,
        row.kind,
        row.succeeded,
        row.failed,
        row.frames,
        row.frames / seconds,
        factor,
        p50,
        p95,
        p99,
    )


def failure_ratio(rows: list[TallyRow]) -> float:
    """Return the share of the rows' requests that failed for another reason than lateness."""
    requests = sum(row.succeeded + row.failed for row in rows)
    return sum(row.failed - row.reasons[LATE] for row in rows) / requests if requests else 0.0


def late_ratio(tally: Tally) -> float:
    """Return the share of the live chunks that were late."""
    live = tally.of(LIVE)
    requests = sum(row.succeeded + row.failed for row in live)
    return sum(row.reasons[LATE] for row in live) / requests if requests else 0.0


def broken_limits(summary: LoadTestSummary, options: Namespace) -> list[str] | None:
    """Return the limits that the run broke, as text; None if no limits were set.

    A limit on something that was not measured counts as broken.
    """
    failures = summary.failure_ratio if summary.requests else None
    limits = [
        ("failure ratio", failures, options.max_failure_ratio, 1, ""),
        ("late ratio", summary.late_ratio, options.max_late_ratio, 1, ""),
        ("p95 of a chunk", summary.chunk_ms["p95"], options.max_p95_ms, 1, " ms"),
        ("p95 of the first frame", summary.first_frame_ms["p95"], options.max_first_frame_ms, 1, " ms"),
        ("frames per second", summary.fps, options.min_fps, -1, ""),
    ]  # fmt: skip
    wanted = [limit for limit in limits if limit[2] is not None]
    if not wanted:
        return None
    broken = []
    for name, value, bound, sign, unit in wanted:
        side = "at most" if sign > 0 else "at least"
        if value is None:
            broken.append(f"{name}: expected {side} {bound:g}{unit}, but nothing was measured")
        elif sign * value > sign * bound:
            broken.append(f"{name}: expected {side} {bound:g}{unit}, got {value:.4g}{unit}")
    return broken


def _named(values: list[float | None]) -> dict[str, float | None]:
    return dict(zip(("p50", "p95", "p99"), values, strict=True))
