"""The client for callers without an event loop."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from ._avatar import Avatar
from ._blocking import EventLoopThread, iterate
from ._client import AsyncLipSyncClient
from ._errors import ClientClosed
from ._live.blocking import BlockingLiveSession
from ._live.frame import LiveEvent
from ._live.options import LiveOptions
from ._output.formats import OutputFormat
from ._output.to_file import Progress, RenderSummary
from ._render import Chunk, RenderOptions


class LipSyncClient:
    """AsyncLipSyncClient for callers without an event loop.

    The arguments and the methods are the same, but for `close`, which is `aclose` there. Any number of
    threads can share a client. It connects when it is first used; without `with` and without `close` it is
    closed when it is garbage, and at the end of the process.

    Example:
        with LipSyncClient("grpc://127.0.0.1:8001") as client:
            client.render_to_file("speech.wav", "talk.mp4", "demo")
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        ca_file: str | Path | None = None,
        reconnect_timeout_s: float = 5.0,
        insecure: bool = False,
        headers: Callable[[], Mapping[str, str]] | None = None,
    ) -> None:
        self._async = AsyncLipSyncClient(
            url,
            token=token,
            ca_file=ca_file,
            reconnect_timeout_s=reconnect_timeout_s,
            insecure=insecure,
            headers=headers,
        )
        self._lock = threading.Lock()
        self._thread: EventLoopThread | None = None
        self._closed = False

    def _open(self) -> EventLoopThread:
        with self._lock:
            if self._closed:
                raise ClientClosed("the client was closed: make a new one")
            if self._thread is None:
                self._thread = EventLoopThread()
                self._finalizer = weakref.finalize(self, self._thread.close, self._async.aclose)
            return self._thread

    def __enter__(self) -> LipSyncClient:
        try:
            self._open().call(self._async.__aenter__)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; calls of other threads that are in flight end with ClientClosed."""
        with self._lock:
            self._closed = True
        if self._thread is not None:
            self._finalizer()

    def avatar(self, name: str) -> Avatar:
        return self._open().call(self._async.avatar, name)

    def avatars(self) -> list[Avatar]:
        return self._open().call(self._async.avatars)

    def health(self) -> dict[str, bool]:
        return self._open().call(self._async.health)

    def info(self) -> dict[str, Any]:
        return self._open().call(self._async.info)

    def render(
        self, audio: str | Path, avatar: str, options: RenderOptions | None = None
    ) -> Generator[Chunk, None, None]:
        yield from iterate(self._open(), self._async.render(audio, avatar, options))

    def stream(
        self, audio: str | Path, avatar: str, options: RenderOptions | None = None
    ) -> Generator[Chunk, None, None]:
        yield from iterate(self._open(), self._async.stream(audio, avatar, options))

    @contextmanager
    def live(
        self,
        avatar: str,
        options: RenderOptions | None = None,
        live_options: LiveOptions | None = None,
        *,
        on_event: Callable[[LiveEvent], object] | None = None,
    ) -> Iterator[BlockingLiveSession]:
        thread = self._open()
        session = self._async.live(avatar, options, live_options, on_event=on_event)
        entered = thread.call(session.__aenter__)
        try:
            yield BlockingLiveSession(entered, thread)
        finally:
            with suppress(ClientClosed):  # which has ended the session
                thread.call(session.__aexit__, None, None, None)

    def render_to_file(
        self,
        audio: str | Path,
        output: str | Path,
        avatar: str,
        options: RenderOptions | None = None,
        *,
        output_format: OutputFormat | None = None,
        force: bool = False,
        resume: bool = False,
        progress: Progress | None = None,
    ) -> RenderSummary:
        async def render() -> RenderSummary:
            return await self._async.render_to_file(
                audio,
                output,
                avatar,
                options,
                output_format=output_format,
                force=force,
                resume=resume,
                progress=progress,
            )

        return self._open().call(render)
