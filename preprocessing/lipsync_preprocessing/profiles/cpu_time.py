"""CPU time of a server's processes, and whether other work took the cores."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

_QUIET = 0.9  # share of our cores that other work must leave free


@dataclass(frozen=True)
class CpuTime:
    """CPU seconds used so far: by a server, by this process, and by the whole machine."""

    server: float
    own: float
    machine: float

    @classmethod
    def now(cls, processes: Iterable[psutil.Process]) -> CpuTime:
        """Return the times at this moment; `processes` are the server's."""
        import psutil

        server = sum(sum(process.cpu_times()[:2]) for process in processes)
        times = psutil.cpu_times()
        # The time of guests is in the user's already.
        machine = times.user + times.nice + times.system + times.irq + times.softirq + times.steal
        return cls(server, sum(psutil.Process().cpu_times()[:2]), machine)

    def quiet_since(self, before: CpuTime, elapsed_s: float, cores: int) -> bool:
        """Return whether other work left free the cores that we may use."""
        ours = self.server - before.server + self.own - before.own
        others = (self.machine - before.machine - ours) / elapsed_s
        return (os.cpu_count() or 1) - others > _QUIET * cores


def processes_of(pid: int | None) -> list[psutil.Process]:
    """Return a process and all its descendants."""
    import psutil

    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]
