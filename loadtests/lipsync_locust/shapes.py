"""More users step by step, until a step is past the knee."""

from __future__ import annotations

import copy
import logging
import time
from typing import Any

from locust import LoadTestShape

from . import knee
from .summary import failure_ratio, late_ratio
from .tally import CHUNKS, FIRST, REQUESTS, Tally, percentiles

_SETTLE = (
    0.25  # share of a step that is not counted: new users connect, queues of the last step drain
)
_SPAWN_RATE = 50.0  # users per second
log = logging.getLogger(__name__)


class KneeSearch(LoadTestShape):
    """The user numbers of --steps, each for --step-seconds; ends at the first step past the knee."""

    def __init__(self) -> None:
        super().__init__()
        self._reset()

    def reset_time(self) -> None:
        super().reset_time()
        self._reset()

    def _reset(self) -> None:
        self._index = 0
        self._step_began: float | None = None
        self._mark: tuple[float, Tally] | None = None

    def tick(self) -> tuple[int, float] | None:
        """Return the number of users and the spawn rate; None to end the run."""
        runner: Any = self.runner
        environment = runner.environment
        options, plugin = environment.parsed_options, environment.lipsync
        users = [int(part) for part in options.steps.split(",") if part.strip()]
        if self._index >= len(users):
            return None
        now = time.perf_counter()
        if self._step_began is None:
            if runner.user_count >= users[self._index]:
                self._step_began = now
        elif self._mark is None:
            if now - self._step_began >= _SETTLE * options.step_seconds:
                self._mark = now, copy.deepcopy(plugin.tally)
        elif now - self._step_began >= options.step_seconds:
            step = measure_step(
                users[self._index], self._mark[1], plugin.tally, now - self._mark[0]
            )
            plugin.steps.append(step)
            self._index, self._step_began, self._mark = self._index + 1, None, None
            found = knee.find(plugin.steps, plugin.limits)
            log.info("step: %s. %s", step, found.text)
            if found.found or self._index == len(users):
                return None
        return users[self._index], _SPAWN_RATE


def measure_step(users: int, before: Tally, after: Tally, seconds: float) -> knee.Step:
    """Return the figures between two states of a tally."""
    change = after.since(before)
    rows = change.of(*CHUNKS) or change.of(FIRST)
    return knee.Step(
        users=users,
        fps=change.frames / seconds,
        p95_ms=percentiles(rows, (95,))[0],
        late=late_ratio(change),
        failed=failure_ratio(change.of(*REQUESTS)),
    )
