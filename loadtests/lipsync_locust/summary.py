"""What a run came to, as plain data: for the report, for files, for the exit code."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict, dataclass, field
from typing import Any

from lipsync_client.protocol import FPS

from . import knee
from .server_metrics import ModelLoad
from .tally import (
    CHUNKS,
    FIRST,
    LATE,
    LIVE,
    REQUESTS,
    Row,
    Tally,
    histogram_percentiles,
    percentiles,
)


@dataclass
class Summary:
    """Figures of a run; times in milliseconds.

    Attributes:
        fps: frames that came, and in time, a second, all users together.
        realtime_factor: seconds of video made each second, all users together.
        failure_ratio: of all requests, late ones apart.
        late_ratio: of the live chunks; None if there were none.
        server_note: why there are no figures of the server, or "".
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
    rows: list[dict[str, Any]]
    causes: list[dict[str, Any]]
    server: list[dict[str, Any]] = field(default_factory=list)
    server_note: str = ""
    steps: list[dict[str, Any]] = field(default_factory=list)
    knee: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    broken_limits: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def summarise(tally: Tally, elapsed_s: float) -> Summary:
    seconds = max(elapsed_s, 1e-9)
    asked = tally.of(*REQUESTS)
    live = sum(row.succeeded + row.failed for row in tally.of(LIVE))
    return Summary(
        elapsed_s=elapsed_s,
        frames=tally.frames,
        fps=tally.frames / seconds,
        realtime_factor=tally.frames / seconds / FPS,
        requests=tally.requests,
        failure_ratio=failure_ratio(asked),
        late_ratio=late_ratio(tally) if live else None,
        chunk_ms=_named(percentiles(tally.of(*CHUNKS))),
        first_frame_ms=_named(percentiles(tally.of(FIRST))),
        rows=[
            {
                "type": type_,
                "name": name,
                "kind": row.kind,
                "succeeded": row.succeeded,
                "failed": row.failed,
                "frames": row.frames,
                "fps": row.frames / seconds,
                # Of one clip by itself, where the row is one of clips.
                "clip_realtime_factor": row.clip_frames / FPS / row.seconds
                if row.clip_frames and row.seconds
                else None,
                **_named(histogram_percentiles(row.times_ms)),
            }
            for (type_, name), row in sorted(tally.rows.items())
        ],
        causes=[
            {
                "type": type_,
                "name": name,
                "cause": cause,
                "count": count,
                "example": row.examples[cause],
            }
            for (type_, name), row in sorted(tally.rows.items())
            for cause, count in row.causes.most_common()
        ],
    )


def failure_ratio(rows: list[Row]) -> float:
    asked = sum(row.succeeded + row.failed for row in rows)
    return sum(row.failed - row.causes[LATE] for row in rows) / asked if asked else 0.0


def late_ratio(tally: Tally) -> float:
    live = tally.of(LIVE)
    asked = sum(row.succeeded + row.failed for row in live)
    return sum(row.causes[LATE] for row in live) / asked if asked else 0.0


def with_server(summary: Summary, loads: list[ModelLoad]) -> None:
    summary.server = [load.to_dict() for load in loads]


def with_steps(summary: Summary, steps: list[knee.Step], found: knee.Knee) -> None:
    summary.steps = [asdict(step) for step in steps]
    summary.knee = found.words


def broken_limits(summary: Summary, options: Namespace) -> list[str] | None:
    """The limits that the run did not keep, in words; None if none were set.

    A limit with nothing to hold against it is not kept.
    """
    failures = summary.failure_ratio if summary.requests else None
    limits = [
        ("failure ratio", failures, options.max_failure_ratio, 1, ""),
        ("late ratio", summary.late_ratio, options.max_late_ratio, 1, ""),
        ("p95 of a chunk", summary.chunk_ms["p95"], options.max_p95_ms, 1, " ms"),
        ("p95 of the first frame", summary.first_frame_ms["p95"], options.max_first_frame_ms, 1, " ms"),
        ("frames a second", summary.fps, options.min_fps, -1, ""),
    ]  # fmt: skip
    wanted = [limit for limit in limits if limit[2] is not None]
    if not wanted:
        return None
    broken = []
    for name, value, bound, sign, unit in wanted:
        side = "at most" if sign > 0 else "at least"
        if value is None:
            broken.append(f"{name}: {side} {bound:g}{unit} was asked for, but nothing was measured")
        elif sign * value > sign * bound:
            broken.append(f"{name}: {value:.4g}{unit}, {side} {bound:g}{unit} was asked for")
    return broken


def _named(values: list[float | None]) -> dict[str, float | None]:
    return dict(zip(("p50", "p95", "p99"), values, strict=True))
