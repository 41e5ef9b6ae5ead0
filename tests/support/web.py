"""A running web service, and a WebRTC viewer that decodes what it receives."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import httpx
import uvicorn
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame, VideoFrame

from lipsync_web import WebSettings, create_app


@contextlib.contextmanager
def running(settings: WebSettings) -> Iterator[str]:
    """Yield the URL of a web service on a free port of this machine."""
    config = uvicorn.Config(create_app(settings), host="127.0.0.1", port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive(), "the web service ended while it started"
        assert time.monotonic() < deadline, "the web service did not start"
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive(), "the web service did not end"


@dataclass(eq=False)
class Viewer:
    """A peer that watches a session.

    Attributes:
        video: decoded frames in order of arrival.
        audio: decoded audio frames.
        answer: the service's SDP.
        location: path of the session.
    """

    http: httpx.AsyncClient
    video: list[VideoFrame] = field(default_factory=list)
    audio: list[AudioFrame] = field(default_factory=list)
    answer: str = ""
    location: str = ""

    async def watch(self, path: str) -> httpx.Response:
        """Send an offer to `path` and apply the answer if there is one."""
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._tasks: list[asyncio.Task[None]] = []
        self.connection.addTransceiver("video", direction="recvonly")
        self.connection.addTransceiver("audio", direction="recvonly")

        @self.connection.on("track")
        def receive(track: MediaStreamTrack) -> None:
            self._tasks.append(asyncio.create_task(self._receive(track)))

        await self.connection.setLocalDescription(await self.connection.createOffer())
        response = await self.http.post(
            path,
            content=self.connection.localDescription.sdp,
            headers={"content-type": "application/sdp"},
        )
        if response.status_code == 201:
            self.answer, self.location = response.text, response.headers["location"]
            await self.connection.setRemoteDescription(
                RTCSessionDescription(response.text, "answer")
            )
        return response

    async def frames(self, count: int, timeout_s: float = 60) -> None:
        """Wait until `count` more frames have been decoded."""
        wanted = len(self.video) + count
        deadline = time.monotonic() + timeout_s
        while len(self.video) < wanted:
            assert time.monotonic() < deadline, f"{len(self.video)} of {wanted} frames came"
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        """End the connection."""
        await self.connection.close()
        for task in self._tasks:  # a track that never connected does not end by itself
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _receive(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                if isinstance(frame, VideoFrame):
                    self.video.append(frame)
                elif isinstance(frame, AudioFrame):
                    self.audio.append(frame)


@contextlib.asynccontextmanager
async def viewer(base: str) -> AsyncIterator[Viewer]:
    """Yield a viewer of the service at `base`."""
    async with httpx.AsyncClient(base_url=base, timeout=60) as http:
        watching = Viewer(http)
        try:
            yield watching
        finally:
            await watching.close()
