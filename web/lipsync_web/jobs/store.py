"""The records of all jobs, in SQLite or Redis: each change is made only if nobody was faster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .job import Job, Status


class TooManyJobs(Exception):
    """No further job is accepted for now.

    Attributes:
        caller: whether the caller has too many, and not all callers together.
    """

    def __init__(self, caller: bool) -> None:
        super().__init__("too many jobs are open")
        self.caller = caller


class StoreUnreachable(Exception):
    """The store does not answer."""


class JobStore(Protocol):
    """The records of the jobs, shared by the service and its workers; methods block, in any thread."""

    def add(self, job: Job, max_open: int, max_caller: int) -> Job:
        """Keep a new job; return it, or the caller's job of the same key.

        Raises:
            TooManyJobs: so many jobs are open in all, or of this caller.
        """

    def get(self, key: str) -> Job | None:
        """Return a job."""

    def swap(self, old: Job, new: Job) -> bool:
        """Replace a record if it is still `old`, and return whether it was."""

    def remove(self, job: Job) -> bool:
        """Remove a record if it is still `job`, and return whether it was."""

    def due(self, time_s: float, limit: int) -> list[str]:
        """Return the jobs that a sweep must look at by now, those due first at the front."""

    def all_ids(self) -> set[str]:
        """Return all jobs."""

    def open_jobs(self) -> dict[Status, tuple[int, float | None]]:
        """Return the number of waiting and running jobs, and when the oldest of them was created."""

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a counter."""

    def counters(self) -> dict[str, int]:
        """Return all counters."""

    def close(self) -> None:
        """Close the connections."""


def update(store: JobStore, key: str, change: Callable[[Job], Job | None]) -> Job | None:
    """Change a job, again if it was changed meanwhile.

    Args:
        store: the records.
        key: the job's id.
        change: returns the new record of the present one, or None to leave it.

    Returns:
        The new record; None if the job is gone or was left.
    """
    while True:
        job = store.get(key)
        new = None if job is None else change(job)
        if job is None or new is None:
            return None
        if new == job or store.swap(job, new):
            return new
