"""How speed and memory change with the number of clips at once, the chunk and the clip's length."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from lipsync_embedded import Server

from .case import speech_file
from .job import JobProcess, Outcome
from .measure import own_mb
from .report import table
from .service import Clips

CONCURRENCY = (1, 2, 4, 8)
CHUNKS = (1, 2, 4, 8, 16, 32)
LENGTHS_S = (2.5, 5.0, 10.0, 20.0, 40.0)
SHORT_S = 4.0  # the clip of the first two


@dataclass(frozen=True)
class Point:
    """One run: clips at once, frames a chunk or seconds of speech, and what came of it.

    Attributes:
        p95_ms: of a request, from sending it until its answer was there.
        client_mb: most memory of the client's own (USS), MiB.
    """

    x: float
    outcome: Outcome
    client_mb: float

    @property
    def fps(self) -> float:
        return self.outcome.frames / self.outcome.seconds

    @property
    def p95_ms(self) -> float:
        return float(np.percentile([seconds for seconds, _ in self.outcome.calls], 95) * 1000)


Scaling = dict[str, list[Point]]  # by what is varied: clips, chunk, seconds


def measure_scaling(server: Server, scratch: Path, scale: float = 1.0) -> Scaling:
    """One run of each point.

    Args:
        scale: of the clips' lengths; under 1 for a quick look.
    """
    short = speech_file(SHORT_S * scale)

    def run(x: float, speech: Path, **options: int) -> Point:
        click.echo(f"scaling: {speech.stem} {options}", err=True)
        with JobProcess(Clips(server.grpc_url, speech, scratch / "scaling", **options)) as process:  # type: ignore[arg-type]
            seen = [own_mb(process.process)]
            outcome = process.run(between=lambda: seen.append(own_mb(process.process)))
            return Point(x, outcome, max(seen))

    return {
        "clips": [run(n, short, clips=n) for n in CONCURRENCY],
        "chunk": [run(n, short, chunk=n) for n in CHUNKS],
        "seconds": [run(s * scale, speech_file(s * scale)) for s in LENGTHS_S],
    }


def scaling_tables(scaling: Scaling) -> str:
    def lines(points: list[Point]) -> list[list[str]]:
        return [
            [
                f"{p.x:g}",
                str(p.outcome.frames),
                f"{p.outcome.seconds:.1f}",
                f"{p.fps:.1f}",
                f"{p.p95_ms:.0f}",
                f"{p.outcome.first_frame_s:.2f}",
                f"{p.client_mb:.0f}",
            ]
            for p in points
        ]

    heads = {"clips": "clips at once", "chunk": "frames a request", "seconds": "seconds of speech"}
    columns = ["frames", "seconds", "FPS", "p95 ms a request", "first frame s", "client MB"]
    return "\n".join(table([heads[k], *columns], lines(points)) for k, points in scaling.items())
