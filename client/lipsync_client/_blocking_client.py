"""The library for callers without an event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from ._avatar import Avatar
from ._blocking import each
from ._client import AsyncLipSyncClient
from ._live.blocking import BlockingLiveSession
from ._live.session import LiveOptions
from ._output.formats import OutputFormat
from ._output.to_file import Progress, RenderSummary
from ._render import Chunk, RenderOptions


class LipSyncClient:
    """AsyncLipSyncClient for callers without an event loop; the methods are the same.

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
        headers: Callable[[], Mapping[str, str]] | None = None,
    ) -> None:
        self._async = AsyncLipSyncClient(
            url,
            token=token,
            ca_file=ca_file,
            reconnect_timeout_s=reconnect_timeout_s,
            headers=headers,
        )

    def __enter__(self) -> LipSyncClient:
        self._context = start_blocking_portal()
        self._portal: BlockingPortal = self._context.__enter__()
        try:
            self._portal.call(self._async.__aenter__)
        except BaseException:
            self._context.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._portal.call(self._async.__aexit__, None, None, None)
        finally:
            self._context.__exit__(None, None, None)

    def avatar(self, name: str) -> Avatar:
        return self._portal.call(self._async.avatar, name)

    def avatars(self) -> list[Avatar]:
        return self._portal.call(self._async.avatars)

    def health(self) -> dict[str, bool]:
        return self._portal.call(self._async.health)

    def info(self) -> dict[str, Any]:
        return self._portal.call(self._async.info)

    def render(
        self, audio: str | Path, avatar: str, options: RenderOptions | None = None
    ) -> Iterator[Chunk]:
        return each(self._portal, self._async.render(audio, avatar, options))

    def stream(
        self, audio: str | Path, avatar: str, options: RenderOptions | None = None
    ) -> Iterator[Chunk]:
        return each(self._portal, self._async.stream(audio, avatar, options))

    @contextmanager
    def live(
        self,
        avatar: str,
        options: RenderOptions | None = None,
        live_options: LiveOptions | None = None,
    ) -> Iterator[BlockingLiveSession]:
        with self._portal.wrap_async_context_manager(
            self._async.live(avatar, options, live_options)
        ) as session:
            yield BlockingLiveSession(session, self._portal)

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
        async def call() -> RenderSummary:
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

        return self._portal.call(call)
