"""The client for asyncio."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from types import TracebackType

from ._audio import AudioFile, ClipWindow
from ._avatar import Avatar, is_avatar
from ._errors import ClientClosed, InputError, ServerError
from ._health import server_health
from ._live.frame import LiveEvent
from ._live.options import LiveOptions
from ._live.pool import LivePool
from ._live.session import LiveSession
from ._output.formats import OutputFormat
from ._output.to_file import Progress, RenderSummary, check_render, render_to_file
from ._process import check_owner
from ._render import Chunk, RenderOptions, render
from ._stream import stream
from ._transports.addresses import check_private, parse_urls
from ._transports.connect import connect
from ._transports.replicas import Replicas
from ._transports.request import Credentials, JsonObject


class AsyncLipSyncClient:
    """A client of a lip-sync server, or of several.

    It connects when it is first used, or when an `async with` block begins, and belongs to the event loop in
    which it does.

    Args:
        url: grpc://HOST:PORT or http://HOST:PORT, grpcs:// or https:// with TLS. Several URLs with commas
            between them, or a name with several IP addresses, are several servers: each request goes to the
            one with the fewest requests in flight, and to another if that one is lost, hangs or is full.
        token: for a gateway that asks for one.
        ca_file: PEM of the authority that signed the gateway's certificate; None for those that this machine
            trusts.
        reconnect_timeout_s: longest wait for a server to come back when all are lost during a render.
        insecure: send the token without TLS to other machines too.
        headers: called for each request for frames; the HTTP headers or gRPC metadata that it returns are
            sent with the request, such as W3C's traceparent (OpenTelemetry's `inject` makes one).

    Raises:
        InputError: a URL of another form, a token that cannot be sent, or would be without TLS, or a CA file
            that does not exist.

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
        insecure: bool = False,
        headers: Callable[[], Mapping[str, str]] | None = None,
    ) -> None:
        self._addresses = parse_urls(url)
        if token and not insecure:
            check_private(self._addresses)
        self._credentials = Credentials(token, ca_file, extra_headers=headers)
        self._reconnect_timeout_s = reconnect_timeout_s
        self._backend: Replicas | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()
        self._live_pool: LivePool | None = None
        self._closed = False

    async def _open(self) -> Replicas:
        """Return the backend, connected in this event loop."""
        if self._closed:
            raise ClientClosed("the client was closed: make a new one")
        loop = asyncio.get_running_loop()
        if self._backend is not None:
            check_owner(self._pid)
            if self._loop is loop:
                return self._backend
            if self._loop is not None and not self._loop.is_closed():
                raise InputError("the client is used in another event loop: make one in each loop")
        backend = await connect(self._addresses, self._credentials, self._reconnect_timeout_s)
        if self._backend is not None and self._loop is loop:  # another task has connected meanwhile
            await backend.close()
            return self._backend
        self._backend, self._loop, self._pid = backend, loop, os.getpid()
        return backend

    async def __aenter__(self) -> AsyncLipSyncClient:
        await self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; calls that are in flight end with ClientClosed."""
        self._closed = True
        if self._backend is not None:
            await self._backend.close()
            self._backend = None

    async def avatar(self, name: str) -> Avatar:
        """Return what the server publishes about an avatar.

        Raises:
            UnknownAvatar: the server has no such avatar, or the model is not an avatar.
            Incompatible: the server is of another version.
        """
        return Avatar.from_config(await (await self._open()).config(name))

    async def avatars(self) -> list[Avatar]:
        """Return the avatars that are ready on the server, sorted by name."""
        backend = await self._open()
        found = []
        for entry in await backend.index():
            if entry.get("state") == "READY":
                config = await backend.config(entry["name"])
                if is_avatar(config):
                    found.append(Avatar.from_config(config))
        return sorted(found, key=lambda avatar: avatar.name)

    async def health(self) -> dict[str, bool]:
        """Return the readiness of each model by name, or by "URL name" if there are several servers.

        Triton reports a model as ready after its process has died, so each avatar is asked for a frame.

        Raises:
            ServerError: the only server does not respond. Of several, one that does not respond is
                "URL server": False.
        """
        backend = await self._open()
        several = len(backend.transports) > 1
        found: dict[str, bool] = {}
        for transport in backend.transports:
            try:
                states = await server_health(transport)
            except ServerError:
                if not several:
                    raise
                states = {"server": False}
            prefix = f"{transport.url} " if several else ""
            found |= {prefix + name: ready for name, ready in states.items()}
        return found

    async def info(self) -> JsonObject:
        """Return Triton's own name, version and extensions."""
        return await (await self._open()).metadata()

    async def render(
        self, audio: str | Path, avatar: str, options: RenderOptions | None = None
    ) -> AsyncGenerator[Chunk, None]:
        """Yield the frames of a clip in chunks, in order, as they are made.

        Args:
            audio: any audio or video file.
            avatar: name of the avatar.
            options: H.264 by default.

        Raises:
            LipSyncError: the clip cannot be read, or a request failed.
        """
        backend = await self._open()
        options = options or RenderOptions()
        source = AudioFile(audio, track=options.audio_track, strict=options.strict)
        try:
            description = await self.avatar(avatar)
            clip = ClipWindow(source.blocks())
            async with aclosing(render(backend, description, clip, options)) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            source.close()

    async def stream(
        self, audio: str | Path, avatar: str, options: RenderOptions | None = None
    ) -> AsyncGenerator[Chunk, None]:
        """Yield the frames of `render`, made in one call: the server cuts the clip.

        This is for clips of minutes: the whole audio is decoded into memory and sent at once, 64 kB for each
        second. `render` is for longer ones, works over HTTP too, and survives the loss of a server.
        Closing the iterator early ends the work at the server.

        Args:
            audio: any audio or video file.
            avatar: name of the avatar.
            options: `chunk` and `in_flight` do not count here, the server has its own; `timeout_s` is the
                longest wait for the next chunk.

        Raises:
            InputError: all URLs are HTTP's, or the clip is too long for one call.
            LipSyncError: the clip cannot be read, or the call failed.
        """
        backend = await self._open()
        backend.check_streams()
        description = await self.avatar(avatar)
        async with aclosing(
            stream(backend, description, audio, options or RenderOptions())
        ) as chunks:
            async for chunk in chunks:
                yield chunk

    @asynccontextmanager
    async def live(
        self,
        avatar: str,
        options: RenderOptions | None = None,
        live_options: LiveOptions | None = None,
        *,
        on_event: Callable[[LiveEvent], object] | None = None,
    ) -> AsyncIterator[LiveSession]:
        """Open a session that takes audio as it comes.

        Args:
            avatar: name of the avatar.
            options: `output`, `loop_offset` and `encoder_options` count; H.264 by default.
            live_options: rates and channels of the audio, and limits of what is waited for and kept.
            on_event: called in the event loop with each event of a reply.

        Raises:
            InputError: an option does not go with the avatar or the output.
            ServerError: the first idle frames could not be requested.

        Example:
            async with client.live("demo") as session:
                session.feed_from(microphone)  # or: await session.feed(samples); session.flush()
                async for frame in session:
                    show(frame.video, frame.audio)
        """
        backend = await self._open()
        description = await self.avatar(avatar)
        if self._live_pool is None or self._live_pool.backend is not backend:
            self._live_pool = LivePool(backend)
        async with LiveSession(
            self._live_pool,
            description,
            options or RenderOptions(),
            live_options or LiveOptions(),
            on_event,
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
        """Render to a video with audio, to a silent preview, to a folder of images or to raw frames.

        Args:
            audio: any audio or video file.
            output: the file or folder, which appears when it is complete; "-" is standard output.
            avatar: name of the avatar.
            options: how to render; `output` follows from the output format and is best left out.
            output_format: what to write; follows from the file's suffix if it is left out.
            force: replace what is there.
            resume: keep each chunk in a folder beside the file until the file is complete, and begin with
                those that an earlier try left there.
            progress: called after each chunk.

        Raises:
            FormatError: the output format does not go with the path or the options.
            LipSyncError: the clip cannot be read, a request failed, or the result cannot be written.
        """
        path, options = Path(output), options or RenderOptions()
        output_format = output_format or OutputFormat(OutputFormat.name_for(path))
        check_render(audio, path, output_format, options, force=force, resume=resume)
        backend = await self._open()
        description = await self.avatar(avatar)
        return await render_to_file(
            backend,
            description,
            audio,
            path,
            output_format,
            options,
            force=force,
            resume=resume,
            progress=progress,
        )
