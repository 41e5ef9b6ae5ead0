"""A worker process: it renders jobs one after the other, calls webhooks and sweeps."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterable
from dataclasses import replace

from lipsync_client import (
    Incompatible,
    InputError,
    LipSyncError,
    Rejected,
    UnknownAvatar,
)

from .attempt import Attempt, JobLost, Stopped
from .files import FilesUnreachable, JobFiles
from .job import WEBHOOK_CHECK_S, Job, now
from .open_store import open_store
from .queue import JobQueue
from .settings import WorkerSettings
from .store import JobStore, StoreUnreachable, update
from .sweep import Sweep
from .webhook import DELAYS_S, call

_log = logging.getLogger("lipsync_web")
_PERMANENT = (InputError, Rejected, UnknownAvatar, Incompatible)  # another try ends the same
_LONGEST_DELAY_S = 60.0
_POLL_S = 0.5  # longest time between looks at an idle queue in SQLite


class Worker:
    """The tasks of a worker process.

    Args:
        settings: of the worker.
        store, files: of all jobs.
    """

    def __init__(self, settings: WorkerSettings, store: JobStore, files: JobFiles) -> None:
        self._settings, self._store, self._files = settings, store, files
        self._name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.stop = threading.Event()
        self.queue = JobQueue(settings.jobs, self.render, self.deliver)

    def render(self, key: str) -> None:
        """Render a job if it still waits; called by the queue.

        Raises:
            StoreUnreachable: the store does not answer; a sweep finds the job.
        """
        job = update(self._store, key, self._claimed)
        if job is None or self.stop.is_set():
            if job is not None:
                self._give_back(job, None)
            return
        self._store.count("attempts")
        attempt = Attempt(self._settings, self._store, self._files, job, self.stop)
        try:
            summary, size = asyncio.run(attempt.run())
            frames = summary.frames if summary else job.best
            warnings = tuple(_clean(job, w) for w in summary.warnings) if summary else ()
            self._end(attempt, job, "done", frames=frames, warnings=warnings, bytes=size)
        except JobLost:
            _log.info("job %s: deleted, or taken over", job.id)
            self._files.leave(job.id, job.attempt)
        except Stopped:
            self._give_back(job, None)
        except _PERMANENT as e:
            self._end(attempt, job, "failed", error=_clean(job, str(e)))
        except (LipSyncError, FilesUnreachable, OSError) as e:
            self._again(attempt, job, _clean(job, str(e)))
        except Exception as e:
            _log.exception("job %s", job.id)
            self._again(attempt, job, f"{type(e).__name__}: {e}")

    def deliver(self, key: str) -> None:
        """Call the webhook of a job that has ended; called by the queue."""
        secret = self._settings.jobs.webhook_secret
        job = update(self._store, key, _webhook_claimed)
        if job is None or secret is None:
            return
        timestamp = int(now())
        delivered = asyncio.run(call(job, secret, self._settings.jobs.networks, timestamp))
        self._store.count(f"webhooks_{'delivered' if delivered else 'failed'}")

        def after(job: Job) -> Job | None:
            if job.webhook_status != "pending":
                return None
            tries = job.webhook_tries
            if delivered:
                return replace(job, webhook_status="delivered", webhook_due=None)
            if delivered is None or tries > len(DELAYS_S):
                return replace(job, webhook_status="failed", webhook_due=None)
            return replace(job, webhook_due=now() + DELAYS_S[tries - 1])

        update(self._store, key, after)

    def _claimed(self, job: Job) -> Job | None:
        if job.status != "waiting":
            return None
        return replace(
            job,
            status="running",
            worker=f"{self._name}:{job.attempt + 1}",
            attempt=job.attempt + 1,
            tries=job.tries + 1,
            wake=now() + self._settings.jobs.lease_s,
            started=job.started or now(),
            frames=0,
            fps=None,
            error=None,
        )

    def _end(self, attempt: Attempt, job: Job, status: str, **values: object) -> None:
        """Record the end of a job."""
        ended = now()

        def change(job: Job) -> Job:
            webhook_due = ended if job.webhook is not None else None
            new = replace(
                job,
                status=status,  # type: ignore[arg-type]
                ended=ended,
                expires=ended + self._settings.jobs.retention_s,
                worker=None,
                webhook_due=webhook_due and webhook_due + WEBHOOK_CHECK_S,
                webhook_status="pending" if job.webhook is not None else None,
                **values,  # type: ignore[arg-type]
            )
            return replace(new, expected_frames=new.frames) if status == "done" else new

        try:
            new = attempt.mine(change)
        except JobLost:
            return
        if status == "failed":
            self._files.end(job.id)
        self._store.count(status)
        self._store.count("frames", new.frames)
        if new.webhook is not None:
            self.queue.add_webhook(new.id)

    def _again(self, attempt: Attempt, job: Job, error: str) -> None:
        """Let a job wait for its next try, longer each time, or end it."""
        if job.tries >= self._settings.jobs.max_tries:
            self._end(attempt, job, "failed", error=error)
            return
        _log.warning("job %s: try %d: %s", job.id, job.tries, error)
        self._give_back(job, error, min(_LONGEST_DELAY_S, 2.0 ** (job.tries - 1)))

    def _give_back(self, job: Job, error: str | None, delay_s: float = 0.0) -> None:
        """Let a job wait again."""

        def change(now_: Job) -> Job | None:
            if now_.worker != job.worker or now_.status != "running":
                return None
            tries = now_.tries if error is not None else max(0, now_.tries - 1)
            return replace(
                now_, status="waiting", worker=None, tries=tries, error=error, wake=now() + delay_s
            )

        update(self._store, job.id, change)  # the next sweep queues it


def _clean(job: Job, text: str) -> str:
    """Return a message without the paths of this machine."""
    words = [w for w in text.split(" ") if f"/{job.id}/" not in w]
    return " ".join(words) or text


def _webhook_claimed(job: Job) -> Job | None:
    if job.open or job.webhook_status != "pending":
        return None
    if job.webhook_due is None:
        return None
    return replace(job, webhook_tries=job.webhook_tries + 1, webhook_due=now() + WEBHOOK_CHECK_S)


def run(settings: WorkerSettings, *, until_eof: bool = False) -> None:
    """Work until SIGTERM or SIGINT.

    Args:
        settings: of the worker.
        until_eof: end when standard input ends too, which it does when the service that started this
            worker has died.
    """
    logging.getLogger("huey").setLevel(logging.ERROR)
    with open_store(settings.jobs) as store:
        files = JobFiles(settings.jobs)
        worker = Worker(settings, store, files)
        consumers = [
            queue.create_consumer(workers=1, periodic=False, max_delay=_POLL_S)
            for queue in (worker.queue.renders, worker.queue.webhooks)
        ]
        for consumer in consumers:
            consumer.start()
        for number in (signal.SIGTERM, signal.SIGINT):  # after huey, which has handlers of its own
            signal.signal(number, lambda *_: worker.stop.set())
        sweep = Sweep(settings.jobs, store, files, worker.queue)
        sweeping = threading.Thread(
            target=sweep.run, args=(worker.stop,), name="sweep", daemon=True
        )
        sweeping.start()
        if until_eof:
            watching = threading.Thread(target=_wait_for_eof, args=(worker.stop,), daemon=True)
            watching.start()
        while not worker.stop.wait(0.5):
            for consumer in consumers:
                consumer.check_worker_health()
        for consumer in consumers:
            consumer.stop_flag.set()
        _join(t for c in consumers for _, t in c.worker_threads)


def _join(threads: Iterable[threading.Thread]) -> None:
    for thread in threads:
        thread.join(20)


def _wait_for_eof(stop: threading.Event) -> None:
    while sys.stdin.readline():
        pass
    stop.set()


def main() -> None:
    """Work with the settings on the first line of standard input, until it ends."""
    logging.basicConfig(level=logging.WARNING, format="lipsync-web worker: %(message)s")
    line = sys.stdin.readline()
    try:
        run(WorkerSettings.from_json(line), until_eof=True)
    except (FilesUnreachable, StoreUnreachable) as e:
        print(f"lipsync-web worker: {e}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
