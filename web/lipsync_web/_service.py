"""The state behind the routes: the client of the lip-sync server, sessions, jobs, thumbnails."""

from __future__ import annotations

import asyncio
import tempfile
import wave
from contextlib import ExitStack, aclosing
from dataclasses import replace
from pathlib import Path

from starlette.requests import Request

from lipsync_client import AsyncLipSyncClient, RenderOptions
from lipsync_client.protocol import SAMPLE_RATE

from ._callers import Callers
from ._peer import check_offer
from ._problems import Problem
from ._session import WebSession
from ._settings import USUAL_MAX_SESSIONS, WebSettings
from .jobs.files import JobFiles
from .jobs.open_store import open_store
from .jobs.queue import JobQueue
from .jobs.settings import WorkerSettings
from .jobs.supervisor import Supervisor
from .jobs.sweep import Sweep


class Service:
    """Live sessions and jobs of one lip-sync server.

    Attributes:
        settings: of the service.
        callers: who may call.
        client: of the lip-sync server.
        folder: of uploads that are being read.
        store, files, queue, sweep: of the jobs.
    """

    def __init__(self, settings: WebSettings) -> None:
        self.callers = Callers(settings.token, settings.callers_file)
        self.client = AsyncLipSyncClient(
            settings.url, token=settings.server_token, ca_file=settings.server_ca_file
        )
        self._opened = ExitStack()
        temporary = tempfile.TemporaryDirectory(prefix="lipsync-web-", ignore_cleanup_errors=True)
        self.folder = Path(self._opened.enter_context(temporary))
        jobs = settings.jobs
        if jobs.folder is None:
            jobs = replace(jobs, folder=self.folder / "jobs")
        jobs = replace(jobs, folder=jobs.root.absolute())
        jobs.root.mkdir(parents=True, exist_ok=True)
        self.settings = settings = replace(settings, jobs=jobs)
        self.store = self._opened.enter_context(open_store(jobs))
        self.files, self.queue = JobFiles(jobs), JobQueue(jobs)
        self.sweep = Sweep(jobs, self.store, self.files, self.queue)
        worker = WorkerSettings(jobs, settings.url, settings.server_token, settings.server_ca_file)
        self._workers = Supervisor(worker)
        self._sessions: dict[str, WebSession] = {}
        self._opening = 0
        self._thumbnails: dict[str, bytes] = {}

    async def start(self) -> None:
        """Start the workers."""
        await self._workers.start()

    async def close(self) -> None:
        """End every session, and stop the workers; what they render waits for the next start."""
        await asyncio.gather(*(session.close() for session in self._sessions.values()))
        await self._workers.stop()
        await self.client.aclose()
        self._opened.close()

    @property
    def sessions(self) -> int:
        """The number of live sessions."""
        return sum(not session.ended for session in self._sessions.values())

    async def open_session(self, avatar: str, offer: str) -> tuple[WebSession, str]:
        """Open a session and return it with the SDP answer to its first viewer.

        Raises:
            Problem: too many sessions are open, or the offer cannot be used.
            LipSyncError: the server or the avatar is not there.
        """
        check_offer(offer)  # before anything is taken for it
        limit = await self._max_sessions(avatar)
        self._sessions = {key: s for key, s in self._sessions.items() if not s.ended}
        if len(self._sessions) + self._opening >= limit:
            raise Problem(
                503,
                f"All {limit} live sessions are taken. Try again later.",
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

    async def _max_sessions(self, avatar: str) -> int:
        """Return the live sessions at once that this avatar allows; those of other avatars count too."""
        if self.settings.max_sessions is not None:
            return self.settings.max_sessions
        told = (await self.client.avatar(avatar)).live_sessions
        return USUAL_MAX_SESSIONS if told is None else told

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


def service_of(request: Request) -> Service:
    """Return the service that a request came to."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


def _write_silence(path: Path) -> None:
    """Write a second of silence, 16-bit mono."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(bytes(2 * SAMPLE_RATE))
