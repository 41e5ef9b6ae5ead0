"""The library, for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from ._audio import AudioFile, ClipWindow
from ._avatar import Avatar, is_avatar
from ._errors import ServerError
from ._health import health_of
from ._live.session import LiveOptions, LiveSession
from ._output.formats import OutputFormat
from ._output.to_file import Progress, RenderSummary, check_target, render_to_file
from ._render import Chunk, RenderOptions, render
from ._stream import stream
from ._transports.replicas import connect_all
from ._transports.triton import Credentials


class AsyncLipSyncClient:
    """A client of a lip-sync server, or of several.

    Args:
        url: grpc://HOST:PORT or http://HOST:PORT, grpcs:// or https:// with TLS. Several with commas
            between, or one whose name has several addresses: requests go where the least is under way,
            and are asked again elsewhere when a server is lost, hangs or is full.
        token: for a gateway that asks for one.
        ca_file: PEM of who signed its certificate, if not one this machine trusts.
        reconnect_timeout_s: longest wait for a server to come back when all are lost during a render.
        headers: called for each request for frames; what it gives goes along as HTTP headers or gRPC
            metadata, such as W3C's traceparent (OpenTelemetry's `inject` makes one).

    Example:
        async with AsyncLipSyncClient("grpc://127.0.0.1:8001") as client:
            await client.render_to_file("speech.wav", "talk.mp4", "demo")
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
        self._url, self._reconnect_timeout_s = url, reconnect_timeout_s
        self._access = Credentials(token, ca_file, more=headers)
        self._transport: Any = None

    async def __aenter__(self) -> AsyncLipSyncClient:
        self._transport = await connect_all(self._url, self._access, self._reconnect_timeout_s)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._transport.close()

    async def avatar(self, name: str) -> Avatar:
        """What the server says of an avatar."""
        return Avatar.from_config(await self._transport.config(name))

    async def avatars(self) -> list[Avatar]:
        """The avatars that are ready on the server."""
        found = []
        for entry in await self._transport.index():
            if entry.get("state") == "READY":
                config = await self._transport.config(entry["name"])
                if is_avatar(config):
                    found.append(Avatar.from_config(config))
        return sorted(found, key=lambda avatar: avatar.name)

    async def health(self) -> dict[str, bool]:
        """Readiness of each model by name, or by "URL name" where there are several servers.

        Triton goes on calling a model ready whose process has died: so each avatar is asked for a frame.
        """
        several = len(self._transport.transports) > 1
        found: dict[str, bool] = {}
        for transport in self._transport.transports:
            try:
                states = await health_of(transport)
            except ServerError:
                if not several:
                    raise
                states = {"server": False}
            prefix = f"{transport.url} " if several else ""
            found |= {prefix + name: ready for name, ready in states.items()}
        return found

    async def info(self) -> dict[str, Any]:
        """Triton's own name, version and extensions."""
        return dict(await self._transport.metadata())

    async def render(
        self, audio: str | Path, avatar: str, options: RenderOptions | None = None
    ) -> AsyncIterator[Chunk]:
        """Chunks of frames, in order, as they are made.

        Args:
            audio: any audio or video file.
            avatar: name of the avatar.
            options: what to make and how; H.264 by default.
        """
        source = AudioFile(audio)
        try:
            about = await self.avatar(avatar)
            chunks = render(
                self._transport, about, ClipWindow(source.blocks()), options or RenderOptions()
            )
            async with aclosing(chunks):  # type: ignore[type-var]
                async for chunk in chunks:
                    yield chunk
        finally:
            source.close()

    async def stream(
        self, audio: str | Path, avatar: str, options: RenderOptions | None = None
    ) -> AsyncIterator[Chunk]:
        """The frames of `render`, from one call: the server cuts the clip, and answers as it goes.

        For clips of minutes: the whole sound is decoded into memory and sent at once, 64 kB a second of it.
        `render` is for long ones, goes over HTTP too, and survives a server that is lost midway. Leaving
        the iterator early ends the work at the server.

        Args:
            audio: any audio or video file.
            avatar: name of the avatar.
            options: what to make; `chunk` and `in_flight` are the server's own, `timeout_s` is the
                longest wait for the next chunk.

        Raises:
            InputError: the server is asked over HTTP.
        """
        self._transport.check_streams()
        chunks = stream(
            self._transport, await self.avatar(avatar), audio, options or RenderOptions()
        )
        async with aclosing(chunks):  # type: ignore[type-var]
            async for chunk in chunks:
                yield chunk

    @asynccontextmanager
    async def live(
        self,
        avatar: str,
        options: RenderOptions | None = None,
        live_options: LiveOptions | None = None,
    ) -> AsyncIterator[LiveSession]:
        """A session that takes sound as it comes.

        Args:
            avatar: name of the avatar.
            options: output, loop_offset and encoder_options count; H.264 by default.
            live_options: the audio's rate and channels, and how latency is spent.

        Example:
            async with client.live("demo") as session:
                asyncio.create_task(talk(session))  # await session.feed(samples); session.finish()
                async for frame in session:
                    show(frame.video, frame.audio)
        """
        about = await self.avatar(avatar)
        async with LiveSession(
            self._transport, about, options or RenderOptions(), live_options or LiveOptions()
        ) as session:
            yield session

    async def render_to_file(
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
        """Render to a video with sound, to a preview without, to pictures or to raw frames.

        Args:
            audio: any audio or video file.
            output: the file, or the folder; it appears only when it is complete. "-" is standard
                output.
            avatar: name of the avatar.
            options: how; what to ask for follows from `output`.
            output_format: what to write; follows from the file's suffix if it is not given.
            force: replace what is there.
            resume: keep each chunk in a folder beside the file until the file is complete, and begin
                with those an earlier try left there.
            progress: called after each chunk.
        """
        path, options = Path(output), options or RenderOptions()
        output_format = output_format or OutputFormat(OutputFormat.name_for(path))
        check_target(path, output_format, options, force=force, resume=resume)
        about = await self.avatar(avatar)
        return await render_to_file(
            self._transport,
            about,
            audio,
            path,
            output_format,
            options,
            resume=resume,
            progress=progress,
        )
