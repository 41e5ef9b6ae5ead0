"""One attempt of a worker to render a job."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from lipsync_client import AsyncLipSyncClient, RenderSummary

from .files import FilesUnreachable, JobFiles, place_chunks
from .job import Job, now
from .settings import WorkerSettings
from .store import JobStore, StoreUnreachable, update

_BEAT_S = 0.25  # between looks at the progress
_WRITE_S = 0.5  # between records of progress
_SPEED_S = 10.0  # the frames of this time are the speed


class JobLost(Exception):
    """The job was deleted, or another worker has taken it over."""


class Stopped(Exception):
    """The worker was told to end."""


@dataclass
class Progress:
    """The frames of an attempt, written by the render and read by the heartbeat."""

    frames: int = 0
    expected: int | None = None
    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def report(self, frames: int, expected: int | None) -> None:
        """Take what the client reports after each chunk."""
        self.frames, self.expected = frames, expected

    def fps(self) -> float | None:
        """Return the frames per second of the last seconds."""
        self._seen.append((time.monotonic(), self.frames))
        while len(self._seen) > 2 and self._seen[-1][0] - self._seen[1][0] > _SPEED_S:
            self._seen.popleft()
        (begin, before), (end, after) = self._seen[0], self._seen[-1]
        return (after - before) / (end - begin) if end > begin and after > before else None


class Attempt:
    """An attempt to render a job that this worker holds the lease of.

    Args:
        settings: of the worker.
        store, files: of all jobs.
        job: as it was claimed.
        stop: set when the worker must end.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        store: JobStore,
        files: JobFiles,
        job: Job,
        stop: threading.Event,
    ) -> None:
        self._settings, self._store, self._files = settings, store, files
        self._job, self._stop = job, stop
        self.progress = Progress()
        self._sent: set[str] = set()

    async def run(self) -> tuple[RenderSummary | None, int]:
        """Render the job, publish its video, and return the summary and the size of the video.

        The summary is None if an earlier attempt had completed the video.

        Raises:
            JobLost: the job is another's now.
            Stopped: the worker was told to end.
            LipSyncError: of the render.
            FilesUnreachable, OSError: the files cannot be read or written.
        """
        work = asyncio.create_task(self._work())
        beats = asyncio.create_task(self._beat())
        try:
            await asyncio.wait([work, beats], return_when=asyncio.FIRST_COMPLETED)
            if beats.done():
                work.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await work
                await beats  # raises the reason
            return await work
        finally:
            for task in (work, beats):
                task.cancel()
            await asyncio.gather(work, beats, return_exceptions=True)

    def mine(self, change: Callable[[Job], Job]) -> Job:
        """Change the job's record if it is still this attempt's.

        Raises:
            JobLost: it is not.
        """

        def checked(job: Job) -> Job | None:
            if job.status != "running" or job.worker != self._job.worker:
                return None
            return change(job)

        new = update(self._store, self._job.id, checked)
        if new is None:
            raise JobLost(self._job.id)
        return new

    async def _work(self) -> tuple[RenderSummary | None, int]:
        job = self._job
        audio, folder = await asyncio.to_thread(self._files.begin, job.id, job.attempt)
        video = folder / f"video{job.options.suffix}"
        place_chunks(folder, video)
        summary = None
        if not video.exists():
            pushing = asyncio.create_task(self._push(video))
            try:
                async with AsyncLipSyncClient(
                    self._settings.url,
                    token=self._settings.token,
                    ca_file=self._settings.ca_file,
                    headers=lambda: {"x-request-id": f"job-{job.id}"},
                ) as client:
                    summary = await client.render_to_file(
                        audio, video, job.avatar, job.options.render_options,
                        output_format=job.options.output_format, resume=True,
                        progress=self.progress.report,
                    )  # fmt: skip
            finally:
                pushing.cancel()
                await asyncio.gather(pushing, return_exceptions=True)
        size = video.stat().st_size
        await asyncio.to_thread(self.mine, self._renewed)
        await asyncio.to_thread(self._files.publish, job.id, video)
        return summary, size

    async def _push(self, video: Path) -> None:
        """Copy chunks to the object store while they are made."""
        while not self._files.local:
            await asyncio.sleep(min(2.0, self._settings.jobs.lease_s / 3))
            with suppress(FilesUnreachable):  # they only save work
                await asyncio.to_thread(self._files.keep_chunks, self._job.id, video, self._sent)

    async def _beat(self) -> None:
        """Renew the lease and record the progress until the job is lost or the worker must end."""
        written, frames = time.monotonic(), -1
        while True:
            await asyncio.sleep(_BEAT_S)
            if self._stop.is_set():
                raise Stopped
            age = time.monotonic() - written
            moved = self.progress.frames != frames and age >= _WRITE_S
            if moved or age >= self._settings.jobs.lease_s / 3:
                with suppress(
                    StoreUnreachable
                ):  # the render goes on, and the next beat tries again
                    await asyncio.to_thread(self.mine, self._renewed)
                    written, frames = time.monotonic(), self.progress.frames

    def _renewed(self, job: Job) -> Job:
        frames = self.progress.frames
        return replace(
            job,
            wake=now() + self._settings.jobs.lease_s,
            frames=frames,
            expected_frames=self.progress.expected,
            fps=self.progress.fps(),
            best=max(job.best, frames),
            tries=0 if frames > job.best else job.tries,
        )
