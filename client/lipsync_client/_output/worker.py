"""A thread for calls that may block for ever, such as those to a network address that does not answer."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """A thread that runs one call after the other; a call that blocks does not keep the process alive."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="lipsync-output", daemon=True).start()

    def call(self, function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """Return the future result of a call."""
        future: asyncio.Future[T] = self._loop.create_future()

        def work() -> None:
            try:
                settle = self._settle(future.set_result, function(*arguments))
            except BaseException as error:
                settle = self._settle(future.set_exception, error)
            with suppress(RuntimeError):  # the event loop has ended
                self._loop.call_soon_threadsafe(lambda: future.done() or settle())

        self._calls.put(work)
        return future

    def close(self) -> None:
        """End the thread after the calls that were made."""
        self._calls.put(None)

    @staticmethod
    def _settle(method: Callable[[Any], None], value: object) -> Callable[[], None]:
        return lambda: method(value)

    def _run(self) -> None:
        while (work := self._calls.get()) is not None:
            work()
