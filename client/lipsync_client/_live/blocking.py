"""A live session for callers without an event loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from .._blocking import EventLoopThread, iterate
from .report import LiveReport
from .session import LiveFrame, LiveOptions, LiveSession


class BlockingLiveSession:
    """LiveSession whose frames are taken in one thread, while another one feeds it.

    Example:
        with client.live("demo") as session:
            threading.Thread(target=talk, args=(session,)).start()  # session.feed(...); session.finish()
            for frame in session:
                show(frame.video, frame.audio)
    """

    def __init__(self, session: LiveSession, portal: EventLoopThread) -> None:
        self._session, self._portal = session, portal

    @property
    def live(self) -> LiveOptions:
        return self._session.live

    @property
    def report(self) -> LiveReport:
        return self._session.report

    def feed(self, samples: NDArray[Any]) -> None:
        self._portal.call(self._session.feed, samples)

    def finish(self) -> None:
        self._portal.call(self._session.finish)

    def interrupt(self) -> None:
        self._portal.call(self._session.interrupt)

    def close(self) -> None:
        self._portal.call(self._session.close)

    def __iter__(self) -> Iterator[LiveFrame]:
        return iterate(self._portal, self._session.__aiter__())
