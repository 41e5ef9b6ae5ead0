"""Sweeps: what is due is done, and what a killed process left undone is taken up."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace

from .files import FilesUnreachable, JobFiles
from .job import WEBHOOK_CHECK_S, Job, now
from .queue import JobQueue
from .settings import JobSettings
from .store import JobStore, StoreUnreachable, update

_log = logging.getLogger("lipsync_web")
_AT_ONCE = 100
_ORPHANS_S = 3600.0  # between looks for files of no job


class Sweep:
    """Looks at the jobs that are due. Every worker sweeps; each change is made by one of them.

    Args:
        settings: of the jobs.
        store, files, queue: of all jobs.
    """

    def __init__(
        self, settings: JobSettings, store: JobStore, files: JobFiles, queue: JobQueue
    ) -> None:
        self._settings, self._store, self._files, self._queue = settings, store, files, queue
        self._period_s = min(2.0, settings.lease_s / 4)
        self._orphans: set[str] = set()

    def run(self, stop: threading.Event) -> None:
        """Sweep until `stop` is set."""
        looked = time.monotonic()
        while not stop.wait(self._period_s):
            try:
                self.once()
                if time.monotonic() - looked > _ORPHANS_S:
                    looked = time.monotonic()
                    self.remove_orphans()
            except (StoreUnreachable, FilesUnreachable, OSError) as e:
                _log.warning("sweep: %s", e)
            except Exception:  # the queue has errors of its own for each storage
                _log.exception("sweep")

    def once(self) -> None:
        """Do what is due."""
        pending: set[str] | None = None
        for key in self._store.due(now(), _AT_ONCE):
            job = self._store.get(key)
            if job is None or job.due > now():
                continue
            if job.status == "waiting" and pending is None:
                pending = self._queue.pending()
            if job.status == "waiting":
                self._requeue(job, queued=job.id in (pending or ()))
            elif job.status == "running":
                self._take_over(job)
            elif job.status == "deleted" or (job.expires is not None and job.expires <= now()):
                self.remove(job)
            else:
                self._call_again(job)

    def remove(self, job: Job) -> None:
        """Delete the files and the record of a job that has ended or was deleted.

        Raises:
            FilesUnreachable: the object store fails; the next sweep tries again.
        """
        if job.status != "deleted":
            deleted = replace(job, status="deleted")
            if not self._store.swap(job, deleted):
                return
            job = deleted
        self._files.remove(job.id)
        self._store.remove(job)

    def remove_orphans(self) -> None:
        """Delete files that no job had at this look and at the one before: a killed process left them."""
        files = self._files.all_ids()
        orphans = files - self._store.all_ids()
        for key in orphans & self._orphans:
            self._files.remove(key)
        self._orphans = orphans

    def _requeue(self, job: Job, queued: bool) -> None:
        """Queue a job whose delay is over, or whose message was lost with the worker that took it."""
        if self._store.swap(job, replace(job, wake=now() + self._settings.check_s)) and not queued:
            self._queue.add(job.id)

    def _take_over(self, job: Job) -> None:
        """Queue a job whose worker is dead, or end it if it kills all its workers."""
        ended = now()

        def change(job: Job) -> Job | None:
            if job.status != "running" or job.wake > ended:
                return None
            if job.tries >= self._settings.max_tries:
                return replace(
                    job,
                    status="failed",
                    worker=None,
                    ended=ended,
                    error=f"{job.tries} workers died one after the other without a new frame",
                    expires=ended + self._settings.retention_s,
                    webhook_due=ended if job.webhook else None,
                    webhook_status="pending" if job.webhook else None,
                )
            return replace(job, status="waiting", worker=None, wake=ended + self._settings.check_s)

        new = update(self._store, job.id, change)
        if new is None:
            return
        self._store.count("workers_lost")
        if new.status == "waiting":
            _log.warning("job %s: its worker is gone; another continues", job.id)
            self._queue.add(job.id)
        else:
            self._store.count("failed")

    def _call_again(self, job: Job) -> None:
        if job.webhook_status != "pending":
            return
        if self._store.swap(job, replace(job, webhook_due=now() + WEBHOOK_CHECK_S)):
            self._queue.add_webhook(job.id)
