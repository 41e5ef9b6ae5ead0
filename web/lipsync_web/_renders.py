"""Renders of uploaded audio to MP4, with progress."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lipsync_client import AsyncLipSyncClient, LipSyncError

from ._problems import Problem
from ._settings import WebSettings


@dataclass(eq=False)
class Render:
    """One render.

    Attributes:
        status: "waiting", "running", "done", "failed" or "cancelled".
        frames, expected: frames made, and in all (None: not known yet).
        error: the reason of a failure.
    """

    avatar: str
    audio: Path
    video: Path
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    status: str = "waiting"
    frames: int = 0
    expected: int | None = None
    error: str | None = None
    begun: float = 0.0
    ended: float | None = None

    def figures(self) -> dict[str, Any]:
        """Return what `GET /v1/jobs/ID` answers."""
        fps = eta_s = None
        if self.begun and self.frames:
            fps = self.frames / max(1e-3, (self.ended or time.monotonic()) - self.begun)
            if self.expected is not None and self.ended is None:
                eta_s = round(max(0, self.expected - self.frames) / fps, 1)
        return {
            "id": self.id, "avatar": self.avatar, "status": self.status, "frames": self.frames,
            "expected_frames": self.expected, "fps": fps and round(fps, 1), "eta_s": eta_s,
            "error": self.error,
        }  # fmt: skip


class Renders:
    """The renders of this process: a bounded number run at once, the others wait in order."""

    def __init__(self, client: AsyncLipSyncClient, folder: Path, settings: WebSettings) -> None:
        self._client, self._folder, self._settings = client, folder, settings
        self._places = asyncio.Semaphore(settings.max_jobs)
        self._renders: dict[str, tuple[Render, asyncio.Task[None]]] = {}

    def add(self, avatar: str, audio: Path) -> Render:
        """Start or queue a render of an uploaded file, which is deleted afterwards.

        Raises:
            Problem: too many renders wait.
        """
        self._forget_old()
        open_renders = sum(render.ended is None for render, _ in self._renders.values())
        if open_renders >= self._settings.max_jobs + self._settings.max_waiting_jobs:
            audio.unlink(missing_ok=True)
            raise Problem(503, "Too many renders wait. Try again later.", {"retry-after": "30"})
        render = Render(avatar, audio, self._folder / f"{secrets.token_hex(8)}.mp4")
        self._renders[render.id] = (render, asyncio.create_task(self._run(render)))
        return render

    def get(self, key: str) -> Render:
        """Return a render.

        Raises:
            Problem: there is none of this id.
        """
        found = self._renders.get(key)
        if found is None:
            raise Problem(404, "There is no such job; it may have expired.")
        return found[0]

    async def cancel(self, key: str) -> None:
        """Cancel a render, or delete its video.

        Raises:
            Problem: there is none of this id.
        """
        self.get(key)
        render, task = self._renders.pop(key)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        render.video.unlink(missing_ok=True)

    async def close(self) -> None:
        """Cancel every render."""
        for key in list(self._renders):
            await self.cancel(key)

    async def _run(self, render: Render) -> None:
        def progress(done: int, expected: int | None) -> None:
            render.frames, render.expected = done, expected

        try:
            async with self._places:
                render.status, render.begun = "running", time.monotonic()
                summary = await self._client.render_to_file(
                    render.audio, render.video, render.avatar, progress=progress
                )
            render.status, render.expected = "done", summary.frames
        except LipSyncError as e:
            render.status, render.error = "failed", str(e)
        except asyncio.CancelledError:
            render.status = "cancelled"
            raise
        finally:
            render.ended = time.monotonic()
            render.audio.unlink(missing_ok=True)

    def _forget_old(self) -> None:
        oldest = time.monotonic() - self._settings.job_retention_s
        for key, (render, _) in list(self._renders.items()):
            if render.ended is not None and render.ended < oldest:
                render.video.unlink(missing_ok=True)
                del self._renders[key]
