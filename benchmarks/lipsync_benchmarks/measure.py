"""Rows take turns, each in processes of its own; every turn starts its servers anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import click
import psutil

from lipsync_client import LipSyncClient
from lipsync_embedded import Server

from .case import AVATAR, PROFILES, Case
from .job import Job, JobError, JobProcess, Outcome

ONNXRUNTIME, RAW_SERVER = "onnxruntime", "raw"
OPENVINO_F32, OPENVINO_BF16 = PROFILES
DEMO = "demo:"  # before a kind: the same for the demo avatar as it is


@dataclass(frozen=True)
class Sample:
    """One run of a row.

    Attributes:
        cpu_ms: CPU time a frame, of all processes it involves.
        peak_mb: most memory of their own (USS) that those held at once, MiB.
        start_s: from launching the first of them until all were ready.
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
    """One way to make frames, and what its runs came to.

    Attributes:
        job: makes the job, given the server it runs against.
        server: which; None for none.
        earlier: the figure that an earlier system gave, and where it was taken.
        samples: by turn.
        failures: what went wrong in the turns that have no sample.
    """

    key: str
    name: str
    job: Callable[[Server | None], Job]
    server: str | None = None
    earlier: str = ""
    samples: dict[int, Sample] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def take_turns(rows: list[Row], turns: int, case: Case, warm_up: Path) -> None:
    """Measure every row `turns` times; `warm_up` is speech for each new server's first run."""
    for turn in range(turns):
        for kind, group in groupby(rows, key=lambda row: row.server):
            with running(kind, case, warm_up) as (server, start_s):
                for row in group:
                    click.echo(f"{turn + 1}/{turns} {row.name}", err=True)
                    try:
                        row.samples[turn] = measure(row.job(server), server, start_s)
                    except JobError as e:  # the others' figures stand
                        row.failures.append(str(e).strip().splitlines()[-1])
                        click.echo(f"failed: {row.failures[-1]}", err=True)


@contextmanager
def running(kind: str | None, case: Case, warm_up: Path) -> Iterator[tuple[Any, float]]:
    """A server of a kind, past its first run, and the seconds it took to be ready."""
    if kind is None:
        yield None, 0.0
        return
    repository = case.raw_repository if kind == RAW_SERVER else case.repository
    if kind.startswith(DEMO):
        assert case.demo is not None
        repository, kind = case.demo, kind.removeprefix(DEMO)
    arguments = [f"--model-config-name={kind}"] if kind in PROFILES else []
    begun = time.perf_counter()
    with Server(repository, extra_args=arguments) as server:
        start_s = time.perf_counter() - begun
        if kind != RAW_SERVER:  # of that, the job's own first call does it
            with LipSyncClient(server.grpc_url) as client:
                for _ in client.render(warm_up, AVATAR):
                    pass
        yield server, start_s


def measure(job: Job, server: Server | None, server_start_s: float = 0.0) -> Sample:
    """One run of a job in a process of its own."""
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


def server_processes(server: Server | None) -> list[psutil.Process]:
    """tritonserver, its stubs and its guard."""
    if server is None or server.pid is None:
        return []
    guard = psutil.Process(server.pid)
    return [guard, *guard.children(recursive=True)]


def cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(p.cpu_times()[:2]) for p in processes)


def own_mb(process: psutil.Process) -> float:
    """Memory of a process's own (USS), MiB."""
    return float(process.memory_full_info().uss) / 2**20


def memory_by_model(server: Server) -> dict[str, float]:
    """MiB of each of a server's processes, by the model it runs."""
    result = {}
    for process in server_processes(server)[1:]:
        model = next(
            (Path(a).parts[-3] for a in process.cmdline() if "/1/model." in a), process.name()
        )
        result[model] = own_mb(process)
    return result
