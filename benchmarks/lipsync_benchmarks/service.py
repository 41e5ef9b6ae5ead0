"""This project's client as a Job: clips rendered by a server, one or several at a time."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lipsync_client import AsyncLipSyncClient, OutputFormat, RenderOptions
from lipsync_client._transports.request import Request, Tensor

from .case import AVATAR
from .job import Outcome

Result = Literal["mp4", "jpg", "raw"]  # raw: frames received as arrays, and dropped
TIMEOUT_S = 900.0  # for a request: a busy machine makes a slow row, not a failed one
RESULTS: tuple[Result, ...] = ("mp4", "jpg", "raw")


@dataclass
class Clips:
    """Clips of the same speech, rendered side by side by one client process.

    Attributes:
        url: of the server.
        target: folder for the files.
        result: what each clip is rendered to.
        clips: how many at once.
        chunk, in_flight: as in the client's RenderOptions.
    """

    url: str
    speech: Path
    target: Path
    result: Result = "mp4"
    clips: int = 1
    chunk: int | None = None
    in_flight: int | None = None
    avatar: str = AVATAR

    def prepare(self) -> None:
        self.target.mkdir(parents=True, exist_ok=True)
        self._loop = asyncio.new_event_loop()
        self._client = AsyncLipSyncClient(self.url)
        self._loop.run_until_complete(self._time_requests())
        self._loop.run_until_complete(self._client.avatar(self.avatar))

    async def _time_requests(self) -> None:
        """Note the duration of each request of the client in `_calls`."""
        backend = await self._client._open()
        infer = backend.infer

        async def timed(request: Request, timeout_s: float) -> Tensor:
            begun = time.perf_counter()
            frames = await infer(request, timeout_s)
            self._calls.append((time.perf_counter() - begun, len(frames)))
            return frames

        backend.infer = timed  # type: ignore[method-assign]

    def run(self) -> Outcome:
        self._calls: list[tuple[float, int]] = []
        begun = time.perf_counter()
        frames, first_s = zip(*self._loop.run_until_complete(self._render_all()), strict=True)
        seconds = time.perf_counter() - begun
        return Outcome(sum(frames), seconds, max(first_s), self._calls)

    async def _render_all(self) -> list[tuple[int, float]]:
        render = self._render_raw if self.result == "raw" else self._render_file
        return list(await asyncio.gather(*(render(n) for n in range(self.clips))))

    async def _render_raw(self, _: int) -> tuple[int, float]:
        """Return the number of frames, and the seconds until the first."""
        begun = time.perf_counter()
        first_s, frames = 0.0, 0
        async for chunk in self._client.render(self.speech, self.avatar, self._options("FRAMES")):
            first_s = first_s or time.perf_counter() - begun
            frames += len(chunk.frames)
        return frames, first_s

    async def _render_file(self, n: int) -> tuple[int, float]:
        """Return the number of frames, and the seconds until the first."""
        assert self.result != "raw"
        path = self.target / (f"{n}.mp4" if self.result == "mp4" else f"{n}-{self.result}")
        summary = await self._client.render_to_file(
            self.speech,
            path,
            self.avatar,
            self._options(),
            output_format=OutputFormat(self.result),
            force=True,
        )
        return summary.frames, summary.first_frame_s

    def _options(self, output: Literal["FRAMES"] | None = None) -> RenderOptions:
        return RenderOptions(
            output=output, chunk=self.chunk, in_flight=self.in_flight, timeout_s=TIMEOUT_S
        )
