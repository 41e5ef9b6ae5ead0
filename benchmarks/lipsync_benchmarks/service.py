"""This project's client as a Job: clips rendered by a server, one or several at a time."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lipsync_client import AsyncLipSyncClient, RenderOptions

from .case import AVATAR
from .job import Outcome

RAW = "raw"  # frames taken from the client as arrays, and dropped


class _Clocked:
    """The client's transport, with every request clocked."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.calls: list[tuple[float, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def infer(self, *arguments: Any) -> Any:
        begun = time.perf_counter()
        frames = await self._transport.infer(*arguments)
        self.calls.append((time.perf_counter() - begun, len(frames)))
        return frames


@dataclass
class Clips:
    """Clips of the same speech, rendered side by side by one client process.

    Attributes:
        url: of the server.
        target: folder that the files go to.
        kind: mp4, jpg (a folder of pictures) or raw.
        clips: how many at once.
        chunk, in_flight: as in the client's RenderOptions.
    """

    url: str
    speech: Path
    target: Path
    kind: str = "mp4"
    clips: int = 1
    chunk: int | None = None
    in_flight: int = RenderOptions.in_flight
    avatar: str = AVATAR

    def prepare(self) -> None:
        self.target.mkdir(parents=True, exist_ok=True)
        self._loop = asyncio.new_event_loop()
        self._client = AsyncLipSyncClient(self.url)
        self._loop.run_until_complete(self._client.__aenter__())
        self._clock = _Clocked(self._client._transport)
        self._client._transport = self._clock
        self._loop.run_until_complete(self._client.avatar(self.avatar))

    def run(self) -> Outcome:
        self._clock.calls = []
        begun = time.perf_counter()
        done = self._loop.run_until_complete(self._all())
        seconds = time.perf_counter() - begun
        frames, firsts = zip(*done, strict=True)
        return Outcome(sum(frames), seconds, max(firsts), self._clock.calls)

    async def _all(self) -> list[tuple[int, float]]:
        one = self._raw if self.kind == RAW else self._file
        return list(await asyncio.gather(*(one(n) for n in range(self.clips))))

    async def _raw(self, _: int) -> tuple[int, float]:
        """Frames, and seconds until the first."""
        begun = time.perf_counter()
        first, frames = 0.0, 0
        async for chunk in self._client.render(self.speech, self.avatar, self._plan("FRAMES")):
            first = first or time.perf_counter() - begun
            frames += len(chunk.frames)
        return frames, first

    async def _file(self, n: int) -> tuple[int, float]:
        pictures = None if self.kind == "mp4" else self.kind
        path = self.target / (f"{n}.mp4" if pictures is None else f"{n}-{pictures}")
        summary = await self._client.render_to_file(
            self.speech, path, self.avatar, self._plan("H264"), frames=pictures, force=True
        )
        return summary.frames, summary.first_frame_s

    def _plan(self, output: str) -> RenderOptions:
        return RenderOptions(output=output, chunk=self.chunk, in_flight=self.in_flight)
