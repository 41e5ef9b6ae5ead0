"""CPU time and memory of processes, and of the server's processes by the model that each runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

from lipsync_embedded import Server


def server_processes(server: Server | None) -> list[psutil.Process]:
    """Return the processes of a server: its guard, tritonserver and the Python backend's stubs."""
    if server is None or server.pid is None:
        return []
    guard = psutil.Process(server.pid)
    return [guard, *guard.children(recursive=True)]


def processes_by_model(server: Server) -> dict[str, list[psutil.Process]]:
    """Return the processes of a server by the model that each runs; the others by their own name.

    A model with several instances has several processes. The guard is left out.
    """
    by_model: dict[str, list[psutil.Process]] = {}
    for process in server_processes(server)[1:]:
        models = (Path(a).parts[-3] for a in process.cmdline() if "/1/model." in a)
        by_model.setdefault(next(models, process.name()), []).append(process)
    return by_model


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Return the CPU time that the processes have used so far, user and system."""
    times = [process.cpu_times() for process in processes]
    return float(sum(t.user + t.system for t in times))


@dataclass(frozen=True)
class Memory:
    """The memory of one process, or the sum over several, MiB.

    Attributes:
        private: memory that no other process maps (USS).
        proportional: the same, plus a process's share of what several map (PSS). Only this one may be summed
            up over processes.
        shared: resident memory that other processes may map: libraries, shared memory and files (RSS - USS).
    """

    private: float = 0.0
    proportional: float = 0.0
    shared: float = 0.0

    def __add__(self, other: Memory) -> Memory:
        return Memory(
            self.private + other.private,
            self.proportional + other.proportional,
            self.shared + other.shared,
        )


def memory_of(processes: list[psutil.Process]) -> Memory:
    """Return the memory of the processes together."""
    total = Memory()
    for process in processes:
        info = process.memory_full_info()
        total += Memory(info.uss / 2**20, info.pss / 2**20, (info.rss - info.uss) / 2**20)
    return total


def own_mb(process: psutil.Process) -> float:
    """Return the memory that the process shares with no other (USS), MiB."""
    return memory_of([process]).private
