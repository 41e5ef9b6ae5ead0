"""Measure rows in turns, each in processes of its own; every turn starts its servers anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Literal

import click

from lipsync_client import LipSyncClient
from lipsync_embedded import Server
from lipsync_preprocessing.profiles.settings import ONNXRUNTIME

from .case import AVATAR, Case
from .job import Job, JobError, JobProcess, Outcome
from .processes import cpu_seconds, own_mb, server_processes


@dataclass(frozen=True)
class Setup:
    """The server that a row needs.

    Attributes:
        profile: the profile that its models are loaded in; "onnxruntime" is the plain config.
        avatar: "random" for the generator with random weights, "demo" for the trained demo avatar, "raw" for
            the plain generator without the service, "students" for the repository of `Case.students`.
    """

    profile: str = ONNXRUNTIME
    avatar: Literal["random", "demo", "raw", "students"] = "random"

    def repository(self, case: Case) -> Path:
        """Return the repository of the case that this setup serves."""
        repositories = {
            "random": case.repository,
            "raw": case.raw_repository,
            "demo": case.demo,
            "students": case.students,
        }
        found = repositories[self.avatar]
        if found is None:
            raise ValueError("no repository with students; there is --students")
        return found


@dataclass(frozen=True)
class Sample:
    """One run of a row.

    Attributes:
        cpu_ms: CPU time per frame, of all processes involved.
        peak_mb: largest memory of their own (USS) that these processes had at one time, MiB.
        start_s: from the launch of the first process until all were ready.
    """

    outcome: Outcome
    cpu_ms: float
    peak_mb: float
    start_s: float

    @property
    def fps(self) -> float:
        return self.outcome.frames / self.outcome.seconds


@dataclass
class Row:
    """One way to make frames, and its measurements.

    Attributes:
        job: makes the job, given the server that it runs against.
        setup: the server; None if the row needs none.
        earlier: the figure that an earlier system reported, and its source.
        samples: by turn.
        failures: error messages of the turns without a sample.
    """

    key: str
    name: str
    job: Callable[[Server | None], Job]
    setup: Setup | None = None
    earlier: str = ""
    samples: dict[int, Sample] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def take_turns(rows: list[Row], turns: int, case: Case, warm_up: Path) -> None:
    """Measure every row `turns` times.

    Args:
        warm_up: speech for the first run of each new server.
    """
    for turn in range(turns):
        for setup, group in groupby(rows, key=lambda row: row.setup):
            if setup is None:
                _measure_group(list(group), turn, turns, None, 0.0)
                continue
            with serve(setup, case, warm_up) as (server, start_s):
                _measure_group(list(group), turn, turns, server, start_s)


def _measure_group(
    rows: list[Row], turn: int, turns: int, server: Server | None, start_s: float
) -> None:
    for row in rows:
        click.echo(f"{turn + 1}/{turns} {row.name}", err=True)
        try:
            row.samples[turn] = measure(row.job(server), server, start_s)
        except JobError as e:  # the other rows' figures are still good
            row.failures.append(str(e).strip().splitlines()[-1])
            click.echo(f"failed: {row.failures[-1]}", err=True)


@contextmanager
def serve(setup: Setup, case: Case, warm_up: Path | None) -> Iterator[tuple[Server, float]]:
    """Run a server.

    Args:
        warm_up: speech that is rendered once before the server is handed out; None to leave that out.

    Yields:
        the server, and the seconds until it was ready.
    """
    profile = None if setup.profile == ONNXRUNTIME else setup.profile
    begun = time.perf_counter()
    with Server(setup.repository(case), profile=profile) as server:
        start_s = time.perf_counter() - begun
        if warm_up is not None and setup.avatar != "raw":  # there the job's own first call does it
            with LipSyncClient(server.grpc_url) as client:
                for _ in client.render(warm_up, AVATAR):
                    pass
        yield server, start_s


def measure(job: Job, server: Server | None, server_start_s: float = 0.0) -> Sample:
    """Run a job once in a process of its own, and return what was measured."""
    with JobProcess(job) as process:
        involved = [process.process, *server_processes(server)]
        peak = 0.0

        def look() -> None:
            nonlocal peak
            peak = max(peak, sum(own_mb(p) for p in involved))

        look()
        before = cpu_seconds(involved)
        outcome = process.run(between=look)
        used = cpu_seconds(involved) - before
        look()
        start_s = server_start_s + process.start_s
    return Sample(outcome, used / outcome.frames * 1000, peak, start_s)
