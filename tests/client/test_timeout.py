"""A time limit returns, ends in time, and keeps a cancellation that comes as the result does."""

from __future__ import annotations

import asyncio

import pytest

from lipsync_client._timeout import within


def test_the_result_and_the_limit() -> None:
    async def fails() -> None:
        raise KeyError("x")

    async def work() -> None:
        assert await within(asyncio.sleep(0, "result"), 60) == "result"
        with pytest.raises(KeyError):
            await within(fails(), 60)
        endless = asyncio.ensure_future(asyncio.Event().wait())
        with pytest.raises(TimeoutError):
            await within(endless, 0.01)
        assert endless.cancelled()

    asyncio.run(work())


def test_a_cancellation_as_the_result_comes() -> None:
    async def work() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = asyncio.ensure_future(within(future, 60))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        future.set_result(None)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(work())


def test_a_cancellation_reaches_the_awaitable() -> None:
    async def work() -> None:
        inner = asyncio.ensure_future(asyncio.Event().wait())
        waiting = asyncio.ensure_future(within(inner, 60))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert inner.cancelled()

    asyncio.run(work())
