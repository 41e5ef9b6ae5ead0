"""The avatar with its mouth closed: the same pictures each time round, so each is asked for once."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from .. import protocol as timeline
from .._avatar import Avatar
from .._render import RenderBackend, RenderOptions, frames_of, request_for
from .audio import LEAD


class IdleFrames:
    """Runs of idle pictures, kept as long as the budget allows.

    Args:
        transport, avatar, plan: as for a render.
        budget: bytes.
    """

    def __init__(
        self, transport: RenderBackend, avatar: Avatar, plan: RenderOptions, budget: int
    ) -> None:
        self._transport, self._avatar, self._plan = transport, avatar, plan
        self._left = budget
        self._kept: dict[tuple[int, int], list[Any]] = {}
        self._asked: dict[tuple[int, int], asyncio.Task[list[Any]]] = {}

    async def run(self, phase: int, count: int, timeout_s: float) -> list[Any]:
        """Pictures of the avatar at rest.

        Args:
            phase: of its motion, frames from the beginning of a time round.
            count: at least 1.
            timeout_s: longest wait for a request, if one must be made.

        Raises:
            ServerError: of a request.
        """
        found = self._kept.get((phase, count))
        if found is not None:
            return found
        # Shielded: who waits for it may lose patience, the next time round it is wanted again.
        return await asyncio.shield(
            self._asked.get((phase, count)) or self._ask(phase, count, timeout_s)
        )

    def prefetch(self, phase: int, timeout_s: float) -> None:
        """Ask for one picture that may be wanted soon, unless another such request is under way."""
        if (phase, 1) not in self._kept and not self._asked:
            self._ask(phase, 1, timeout_s)

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = list(self._asked.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ask(self, phase: int, count: int, timeout_s: float) -> asyncio.Task[list[Any]]:
        key = (phase, count)
        task = asyncio.create_task(self._answer(phase, count, timeout_s))
        self._asked[key] = task

        def done(task: asyncio.Task[list[Any]]) -> None:
            del self._asked[key]
            if task.cancelled() or task.exception():
                return  # who waits for it is told; of a prefetch nobody need know
            size = sum(len(p) if isinstance(p, bytes) else p.nbytes for p in task.result())
            if size <= self._left:
                self._left -= size
                self._kept[key] = task.result()

        task.add_done_callback(done)
        return task

    async def _answer(self, phase: int, count: int, timeout_s: float) -> list[Any]:
        begin, end = timeline.sample_range(timeline.LIVE, LEAD, count)
        silence = np.zeros(end - begin, np.float32)
        asked = request_for(
            self._avatar, self._plan, silence, begin, timeline.LIVE, LEAD, count, phase - LEAD
        )
        answer = await self._transport.infer(asked, timeout_s)
        return list(frames_of(answer))
