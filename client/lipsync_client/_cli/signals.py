"""Signals that end a command: they are never lost, and what was begun is undone."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

_OF_THE_COMMAND = (signal.SIGTERM, signal.SIGHUP)  # Python itself does as much for Ctrl-C
_OF_THE_LOOP = (signal.SIGINT, *_OF_THE_COMMAND)


def unwind_on_signals() -> None:
    """Let SIGTERM and SIGHUP unwind the stack as Ctrl-C does: partial files are deleted, servers stopped."""
    for number in _OF_THE_COMMAND:
        signal.signal(number, _raise_exit)


def run_until_signal(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in an event loop of its own; a signal cancels it.

    A handler that raises, as those outside of the loop do, may do so in a callback of gRPC's, which swallows
    exceptions.

    Raises:
        SystemExit: SIGTERM or SIGHUP came.
        KeyboardInterrupt: SIGINT came.
    """
    came: list[signal.Signals] = []

    async def call() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def cancel(number: signal.Signals) -> None:
            came.append(number)
            if task is not None:
                task.cancel()

        for number in before:
            loop.add_signal_handler(number, cancel, number)
        try:
            return await work
        finally:
            for number in before:
                loop.remove_signal_handler(number)

    handlers = {number: signal.getsignal(number) for number in _OF_THE_LOOP}
    before = {n: old for n, old in handlers.items() if old not in (signal.SIG_IGN, None)}
    try:
        return asyncio.run(call())
    except asyncio.CancelledError:
        if not came:
            raise
        if came[0] == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise SystemExit(128 + came[0]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise_exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
