"""Speed and memory by the number of clips at once, the chunk and the clip's length."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np

from lipsync_embedded import Server

from .case import speech_file
from .job import JobProcess, Outcome
from .processes import own_mb
from .service import Clips
from .tables import table

CONCURRENCY = (1, 2, 4, 8)
CHUNKS = (1, 2, 4, 8, 16, 32)
LENGTHS_S = (2.5, 5.0, 10.0, 20.0, 40.0)
SHORT_S = 4.0  # the clip for CONCURRENCY and CHUNKS


@dataclass(frozen=True)
class Point:
    """One run.

    Attributes:
        x: the value that is varied: clips at once, frames per request or seconds of speech.
        client_mb: largest memory of the client's own (USS), MiB.
    """

    x: float
    outcome: Outcome
    client_mb: float

    @property
    def fps(self) -> float:
        return self.outcome.frames / self.outcome.seconds

    @property
    def p95_ms(self) -> float:
        """95th percentile of a request's time, from sending it to its response."""
        return float(np.percentile([seconds for seconds, _ in self.outcome.calls], 95) * 1000)


Scaling = dict[str, list[Point]]  # by the value that is varied: clips, chunk, seconds


def measure_scaling(server: Server, scratch: Path, scale: float = 1.0) -> Scaling:
    """Measure each point once.

    Args:
        scale: factor on the clips' lengths; below 1 for a quick look.
    """
    short = Clips(server.grpc_url, speech_file(SHORT_S * scale), scratch / "scaling")

    def run(x: float, clips: Clips) -> Point:
        click.echo(f"scaling: {clips.speech.stem}, {clips.clips} clips at once", err=True)
        with JobProcess(clips) as process:
            seen = [own_mb(process.process)]
            outcome = process.run(between=lambda: seen.append(own_mb(process.process)))
            return Point(x, outcome, max(seen))

    return {
        "clips": [run(n, replace(short, clips=n)) for n in CONCURRENCY],
        "chunk": [run(n, replace(short, chunk=n)) for n in CHUNKS],
        "seconds": [
            run(s * scale, replace(short, speech=speech_file(s * scale))) for s in LENGTHS_S
        ],
    }


def scaling_tables(scaling: Scaling) -> str:
    """Return the Markdown tables of the three variations."""

    def line(point: Point) -> list[str]:
        return [
            f"{point.x:g}",
            str(point.outcome.frames),
            f"{point.outcome.seconds:.1f}",
            f"{point.fps:.1f}",
            f"{point.p95_ms:.0f}",
            f"{point.outcome.first_frame_s:.2f}",
            f"{point.client_mb:.0f}",
        ]

    heads = {
        "clips": "clips at once",
        "chunk": "frames per request",
        "seconds": "seconds of speech",
    }
    columns = ["frames", "seconds", "FPS", "p95 ms of a request", "first frame s", "client MB"]
    return "\n".join(
        table([heads[key], *columns], [line(point) for point in points])
        for key, points in scaling.items()
    )
