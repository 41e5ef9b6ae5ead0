"""A WebRTC peer of the example bot, which decodes what it receives."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import httpx
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame, VideoFrame
from numpy.typing import NDArray


@dataclass
class BotPeer:
    """A peer.

    Attributes:
        video: (arrival, uint8 (H, W, 3) BGR), in order.
        audio: (arrival, int16 (n,) at 48 kHz), in order.
    """

    connection: RTCPeerConnection
    video: list[tuple[float, NDArray[np.uint8]]] = field(default_factory=list)
    audio: list[tuple[float, NDArray[np.int16]]] = field(default_factory=list)

    def send(self, **message: str) -> None:
        """Send a message of the page."""
        self.channel.send(json.dumps(message))

    async def until(self, condition: Callable[[BotPeer], bool], timeout_s: float = 120) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + timeout_s
        while not condition(self):
            counts = f"{len(self.video)} video and {len(self.audio)} audio frames came"
            assert time.monotonic() < deadline, counts
            await asyncio.sleep(0.01)

    def loud(self, since: float = 0.0) -> list[float]:
        """Return the arrivals of the audio frames that are no silence."""
        return [at for at, block in self.audio if at > since and np.abs(block).max() > 300]

    async def connect(self, url: str, microphone: MediaStreamTrack) -> None:
        """Send the offer, and wait for the data channel."""
        opened = asyncio.Event()
        self.channel = self.connection.createDataChannel("bot")
        self.channel.on("open", opened.set)
        self.tasks: list[asyncio.Task[None]] = []
        self.connection.on("track", lambda t: self.tasks.append(asyncio.create_task(self._take(t))))
        self.connection.addTransceiver(microphone)
        self.connection.addTransceiver("video", direction="recvonly")
        await self.connection.setLocalDescription(await self.connection.createOffer())
        offer = self.connection.localDescription
        async with httpx.AsyncClient(timeout=60) as http:
            response = await http.post(f"{url}/offer", json={"sdp": offer.sdp, "type": offer.type})
        response.raise_for_status()
        answer = response.json()
        await self.connection.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))
        await asyncio.wait_for(opened.wait(), 60)

    async def _take(self, track: MediaStreamTrack) -> None:
        with suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                now = time.monotonic()
                if isinstance(frame, VideoFrame):
                    image = np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)
                    self.video.append((now, image))
                elif isinstance(frame, AudioFrame):
                    block = np.asarray(frame.to_ndarray().ravel(), np.int16)
                    self.audio.append((now, block[:: len(frame.layout.channels)]))


@asynccontextmanager
async def bot_peer(url: str, microphone: MediaStreamTrack) -> AsyncIterator[BotPeer]:
    """Yield a connected peer of the bot at `url`."""
    peer = BotPeer(RTCPeerConnection(RTCConfiguration(iceServers=[])))
    try:
        await peer.connect(url, microphone)
        yield peer
    finally:
        await peer.connection.close()
        for task in peer.tasks:
            task.cancel()
        await asyncio.gather(*peer.tasks, return_exceptions=True)
