"""An event loop in a thread of its own, for callers without one."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar, overload

from ._errors import ClientClosed, InputError, LipSyncError
from ._process import check_gevent, check_owner

T = TypeVar("T")


class EventLoopThread:
    """An event loop that other threads call.

    The thread is a daemon, so a client that is never closed does not keep the process alive.

    Attributes:
        generators: asynchronous generators that are being iterated over; `close` closes them.

    Raises:
        UnsupportedProcess: gevent has patched this process.
    """

    def __init__(self) -> None:
        check_gevent()
        self.generators: set[AsyncGenerator[Any, None]] = set()
        self._pid = os.getpid()
        self._closed, self._lock = False, threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="lipsync-client", daemon=True)
        self._thread.start()

    @overload
    def call(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T: ...

    @overload
    def call(self, function: Callable[..., T], *arguments: Any) -> T: ...

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a function, or the awaitable it returns, gives in the event loop.

        An exception in the calling thread, such as KeyboardInterrupt, cancels the call and waits for its end.

        Raises:
            ClientClosed: `close` was called, before or during the call.
            UnsupportedProcess: this process was forked from the one that made the loop.
        """
        check_owner(self._pid)
        if threading.current_thread() is self._thread:
            raise InputError("a callback of a client cannot call the same client")
        outcome: Future[Any] = Future()
        tasks: list[asyncio.Task[Any]] = []

        async def work() -> Any:
            result = function(*arguments)
            return await result if inspect.isawaitable(result) else result

        def start() -> None:
            tasks.append(self._loop.create_task(work()))
            tasks[0].add_done_callback(lambda task: _settle(outcome, task))

        self._send(start)
        try:
            return outcome.result()
        except BaseException:
            if not outcome.done():
                with suppress(Exception):
                    self._send(lambda: tasks[0].cancel())
                    outcome.result()
            raise

    def close(self, cleanup: Callable[[], Awaitable[None]]) -> None:
        """Cancel all calls, run `cleanup` and end the thread; the second time, do nothing."""
        if self._pid != os.getpid():
            return

        async def end() -> None:
            calls = asyncio.all_tasks() - {asyncio.current_task()}
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            for generator in list(self.generators):
                await generator.aclose()
            with suppress(LipSyncError):
                await cleanup()
            self._loop.stop()

        with suppress(ClientClosed):
            self._send(lambda: self._loop.create_task(end()), last=True)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _send(self, callback: Callable[[], object], *, last: bool = False) -> None:
        """Run something in the event loop; what is sent before the last callback runs before it."""
        with self._lock:
            if self._closed:
                raise ClientClosed("the client was closed")
            self._closed = last
            self._loop.call_soon_threadsafe(callback)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()


def iterate(thread: EventLoopThread, items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """Yield the items of an asynchronous generator; it is closed however the loop over them ends."""
    thread.generators.add(items)
    try:
        while True:
            try:
                item: T = thread.call(items.__anext__)
            except StopAsyncIteration:
                return
            yield item
    finally:
        with suppress(ClientClosed):  # which has closed the generator too
            thread.call(items.aclose)
        thread.generators.discard(items)


def _settle(outcome: Future[T], task: asyncio.Task[T]) -> None:
    if task.cancelled():
        outcome.set_exception(ClientClosed("the client was closed during this call"))
    elif (error := task.exception()) is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(task.result())
