"""A time limit that keeps cancellations."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def within(awaitable: Awaitable[T], timeout_s: float) -> T:
    """Return the result of an awaitable, which is cancelled after `timeout_s` seconds.

    `asyncio.wait_for` loses a cancellation, such as that of Ctrl-C, that comes in the moment in which the
    awaitable ends, before Python 3.12 (https://github.com/python/cpython/issues/86296).

    Raises:
        TimeoutError: there is no result in time.
    """
    task = asyncio.ensure_future(awaitable)
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
        if not done:
            raise TimeoutError(f"no result within {timeout_s:g} s")
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        elif not task.cancelled():
            task.exception()  # asyncio reports an error that nobody reads: the caller may have been cancelled
