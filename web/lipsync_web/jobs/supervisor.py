"""The worker processes that the service starts, and starts again when they die."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time

from .settings import WorkerSettings

_log = logging.getLogger("lipsync_web")
_STOP_S = 25.0
_QUICK_S = 5.0  # a worker that ended sooner is started again later only


class Supervisor:
    """Keeps worker processes running. They end when this process has ended, however it did.

    Args:
        settings: of the workers.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._processes: list[subprocess.Popen[bytes]] = []
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the workers."""
        for _ in range(self._settings.jobs.workers):
            self._processes.append(self._launch())
        if self._processes:
            self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Stop the workers; a job that runs waits for the next worker."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        await asyncio.to_thread(self._wait)

    def _wait(self) -> None:
        deadline = time.monotonic() + _STOP_S
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    async def _watch(self) -> None:
        started = [time.monotonic()] * len(self._processes)
        while True:
            await asyncio.sleep(0.5)
            for at, process in enumerate(self._processes):
                if process.poll() is None:
                    continue
                if time.monotonic() - started[at] < _QUICK_S:
                    continue
                _log.warning(
                    "a worker ended with status %d; it is started again", process.returncode
                )
                assert process.stdin is not None
                process.stdin.close()
                self._processes[at], started[at] = self._launch(), time.monotonic()

    def _launch(self) -> subprocess.Popen[bytes]:
        # The folder says in a list of processes whose worker it is.
        command = [sys.executable, "-m", "lipsync_web.jobs.worker", str(self._settings.jobs.folder)]
        # A session of its own: Ctrl-C in a terminal reaches the service alone, which stops its workers.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
        )
        assert process.stdin is not None
        process.stdin.write(self._settings.to_json().encode() + b"\n")
        process.stdin.flush()
        return process
