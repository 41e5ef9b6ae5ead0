"""The beat of 25 frames per second that sessions share, so that one wake-up serves them all."""

from __future__ import annotations

import asyncio
import math

from ..protocol import FPS

_ROUNDING = 1e-6  # frames


class FrameClock:
    """Times that are whole frames apart; it belongs to the event loop that runs when it is made."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._begun = self._loop.time()
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}

    def after(self, time: float) -> float:
        """Return the first beat that is not before a time."""
        return self._begun + math.ceil((time - self._begun) * FPS - _ROUNDING) / FPS

    def beat(self, time: float) -> asyncio.Future[None]:
        """Return a future that is done at a time, which must be that of a beat."""
        number = round((time - self._begun) * FPS)
        waiter = self._loop.create_future()
        waiting = self._waiting.get(number)
        if waiting is None:
            self._waiting[number] = [waiter]
            self._loop.call_at(self._begun + number / FPS, self._wake, number)
        else:
            waiting.append(waiter)
        return waiter

    def _wake(self, number: int) -> None:
        for waiter in self._waiting.pop(number):
            if not waiter.done():
                waiter.set_result(None)
