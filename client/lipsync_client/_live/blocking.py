"""A live session for callers without an event loop."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from contextlib import suppress
from typing import Any

from numpy.typing import NDArray

from .._blocking import EventLoopThread, iterate
from .._errors import ClientClosed
from .frame import LiveFrame
from .options import LiveOptions
from .report import LiveReport
from .session import LiveSession


class BlockingLiveSession:
    """LiveSession for callers without an event loop; any thread can call it.

    Example:
        with client.live("demo") as session:
            session.feed_from(microphone)
            for frame in session:
                show(frame.video, frame.audio)
    """

    def __init__(self, session: LiveSession, thread: EventLoopThread) -> None:
        self._session, self._thread = session, thread

    @property
    def options(self) -> LiveOptions:
        return self._session.options

    @property
    def report(self) -> LiveReport:
        return self._session.report

    @property
    def position(self) -> int:
        return self._session.position

    @property
    def latency_s(self) -> float:
        return self._session.latency_s

    def feed(self, samples: NDArray[Any]) -> None:
        self._thread.call(self._session.feed, samples)

    def feed_from(self, source: Iterable[NDArray[Any]], *, finish: bool = True) -> None:
        """Feed all that a source yields, as LiveSession does; it is iterated over in a thread of its own."""

        def work() -> None:
            try:
                for samples in source:
                    self.feed(samples)
                if finish:
                    self.finish()
                else:
                    self.flush()
            except Exception as error:
                with suppress(ClientClosed):  # nobody takes frames any more
                    self._thread.call(self._session.fail, error)

        threading.Thread(target=work, name="lipsync-feed", daemon=True).start()

    def flush(self) -> None:
        self._thread.call(self._session.flush)

    def finish(self) -> None:
        self._thread.call(self._session.finish)

    def interrupt(self) -> int:
        return self._thread.call(self._session.interrupt)

    def close(self) -> None:
        self._thread.call(self._session.close)

    def __iter__(self) -> Generator[LiveFrame, None, None]:
        yield from iterate(self._thread, self._session.__aiter__())
