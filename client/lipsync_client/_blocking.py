"""From asyncio to callers without an event loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from anyio.from_thread import BlockingPortal


def each(portal: BlockingPortal, items: Any) -> Iterator[Any]:
    """What an asynchronous generator gives, one by one; it is closed however the loop ends."""
    try:
        while True:
            try:
                yield portal.call(items.__anext__)
            except StopAsyncIteration:
                return
    finally:
        portal.call(items.aclose)
