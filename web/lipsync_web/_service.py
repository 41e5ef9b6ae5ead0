"""The state behind the routes: the client of the lip-sync server, sessions, renders, thumbnails."""

from __future__ import annotations

import asyncio
import tempfile
import wave
from contextlib import aclosing
from pathlib import Path

from lipsync_client import AsyncLipSyncClient, RenderOptions
from lipsync_client.protocol import SAMPLE_RATE

from ._problems import Problem
from ._renders import Renders
from ._session import WebSession
from ._settings import WebSettings


class Service:
    """Live sessions and renders of one lip-sync server."""

    def __init__(self, settings: WebSettings) -> None:
        self.settings = settings
        self.client = AsyncLipSyncClient(
            settings.url, token=settings.server_token, ca_file=settings.server_ca_file
        )
        self._folder = tempfile.TemporaryDirectory(prefix="lipsync-web-")
        self.folder = Path(self._folder.name)
        self.renders = Renders(self.client, self.folder, settings)
        self._sessions: dict[str, WebSession] = {}
        self._opening = 0
        self._thumbnails: dict[str, bytes] = {}

    async def close(self) -> None:
        """End every session and render, and delete their files."""
        await asyncio.gather(*(session.close() for session in self._sessions.values()))
        await self.renders.close()
        await self.client.aclose()
        self._folder.cleanup()

    async def open_session(self, avatar: str, offer: str) -> tuple[WebSession, str]:
        """Open a session and return it with the SDP answer to its first viewer.

        Raises:
            Problem: too many sessions are open, or the offer cannot be used.
            LipSyncError: the server or the avatar is not there.
        """
        self._sessions = {key: s for key, s in self._sessions.items() if not s.ended}
        if len(self._sessions) + self._opening >= self.settings.max_sessions:
            raise Problem(
                503,
                f"All {self.settings.max_sessions} live sessions are taken. Try again later.",
                {"retry-after": "10"},
            )
        self._opening += 1
        try:
            session = WebSession(self.client, avatar, self.settings)
            await session.start()
            try:
                answer = await session.watch(offer)
            except BaseException:
                await session.close()
                raise
        finally:
            self._opening -= 1
        self._sessions[session.id] = session
        return session, answer

    def session(self, key: str, *, may_have_ended: bool = False) -> WebSession:
        """Return a session.

        Raises:
            Problem: there is none of this id, or it has ended.
        """
        session = self._sessions.get(key)
        if session is None or (session.ended and not may_have_ended):
            raise Problem(404, "There is no such session; it may have ended.")
        return session

    async def end_session(self, key: str) -> None:
        """End a session.

        Raises:
            Problem: there is none of this id.
        """
        await self.session(key, may_have_ended=True).close()
        self._sessions.pop(key, None)

    async def thumbnail(self, avatar: str) -> bytes:
        """Return a JPEG of an avatar with its mouth closed.

        Raises:
            LipSyncError: the server or the avatar is not there.
        """
        if avatar not in self._thumbnails:
            path = self.folder / "silence.wav"
            if not path.exists():
                _write_silence(path)
            options = RenderOptions(output="JPEG", chunk=1)
            async with aclosing(self.client.render(path, avatar, options)) as chunks:
                async for chunk in chunks:
                    self._thumbnails[avatar] = bytes(chunk.frames[0])
                    break
        return self._thumbnails[avatar]


def _write_silence(path: Path) -> None:
    """Write a second of silence, 16-bit mono."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(bytes(2 * SAMPLE_RATE))
