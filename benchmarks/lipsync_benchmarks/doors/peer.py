"""A WebRTC peer that records when frames and audio come, and how far the mouth is open."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import httpx
import numpy as np
import soxr
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.rtp import RtcpSrPacket
from av import AudioFrame, VideoFrame
from numpy.typing import NDArray

from lipsync_client.protocol import SAMPLE_RATE

from ..case import AVATAR
from .curves import Points, Sync, compare, find, loudness
from .mouth import Mouth, crop_of, render_mouth

AUDIO_RATE = 48_000
SILENCE = 0.005  # loudness of what is not heard, full scale 1
_TIMEOUT_S = 120.0


@dataclass
class Peer:
    """A peer.

    Attributes:
        mouth: of the avatar; None to count frames only.
        by_arrival: the time of a frame is its arrival. Pipecat's video track counts 30 frames per second, and
            its clock falls behind when it does not reach them.
        avatar: that speaks.
        frames: arrival, media time and opening of each frame, s.
        blocks: arrival, media time and samples of each audio frame, float32 at 48 kHz.
    """

    mouth: Mouth | None = None
    by_arrival: bool = False
    avatar: str = AVATAR
    frames: list[tuple[float, float, float]] = field(default_factory=list)
    blocks: list[tuple[float, float, NDArray[np.float32]]] = field(default_factory=list)
    _reports: dict[str, list[float]] = field(default_factory=lambda: {"video": [], "audio": []})
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.connection.on(
            "track", lambda track: self._tasks.append(asyncio.create_task(self._take(track)))
        )

    async def watch(self, http: httpx.AsyncClient, path: str) -> str:
        """Open a session by WHEP and return its path."""
        self.connection.addTransceiver("video", direction="recvonly")
        self.connection.addTransceiver("audio", direction="recvonly")
        await self.connection.setLocalDescription(await self.connection.createOffer())
        sdp, headers = self.connection.localDescription.sdp, {"content-type": "application/sdp"}
        response = (await http.post(path, content=sdp, headers=headers)).raise_for_status()
        answer = RTCSessionDescription(response.text, "answer")
        await self.connection.setRemoteDescription(answer)
        self._listen_to_reports()
        return str(response.headers["location"])

    async def talk_to_bot(self, http: httpx.AsyncClient, microphone: MediaStreamTrack) -> None:
        """Connect with the example bot, and wait for its data channel."""
        opened = asyncio.Event()
        self.channel = self.connection.createDataChannel("bot")
        self.channel.on("open", opened.set)
        self.connection.addTransceiver(microphone)
        self.connection.addTransceiver("video", direction="recvonly")
        await self.connection.setLocalDescription(await self.connection.createOffer())
        offer = self.connection.localDescription
        response = await http.post("/offer", json={"sdp": offer.sdp, "type": offer.type})
        answer = response.raise_for_status().json()
        await self.connection.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))
        self._listen_to_reports()
        await asyncio.wait_for(opened.wait(), _TIMEOUT_S)

    async def until(self, condition: Callable[[Peer], bool]) -> None:
        """Wait until something holds.

        Raises:
            TimeoutError: it does not within two minutes.
        """
        deadline = time.monotonic() + _TIMEOUT_S
        while not condition(self):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.frames)} frames and {len(self.blocks)} blocks came")
            await asyncio.sleep(0.005)

    def heard(self, since: float) -> list[float]:
        """Return the arrivals after a time of audio that is no silence."""
        return [at for at, _, block in self.blocks if at > since and block.std() > SILENCE]

    def spoke(self, since: float) -> list[float]:
        """Return the arrivals after a time of frames with an open mouth."""
        least = self.mouth.speaking if self.mouth else 0.0
        return [at for at, _, opening in self.frames if at > since and opening > least]

    def sync(self, url: str, since: float, seconds: float) -> Sync:
        """Compare the mouth with an offline render of what was heard, by the sender's reports.

        Args:
            url: of the lip-sync server.
            since: arrival of the first audio that counts.
            seconds: length of the audio that is compared.
        """
        assert self.mouth is not None
        frames, blocks = list(self.frames), list(self.blocks)  # more may come meanwhile
        arrival, media, opening = np.array(frames).T
        shown = media + np.median(self._reports["video"]) - np.median(self._reports["audio"])
        if self.by_arrival:
            shown = arrival - np.median([at - begun for at, begun, _ in blocks])
        spoken = [(begun, block) for at, begun, block in blocks if at > since]
        first = spoken[0][0]
        wave = np.zeros(round((spoken[-1][0] - first + 1) * AUDIO_RATE), np.float32)
        for begun, block in spoken:
            begin = round((begun - first) * AUDIO_RATE)
            wave[begin : begin + len(block)] = block
        loud = np.flatnonzero(np.abs(wave) > SILENCE)
        begin = max(0, int(loud[0]) - AUDIO_RATE // 4)
        clip = soxr.resample(
            wave[begin : begin + round(seconds * AUDIO_RATE)], AUDIO_RATE, SAMPLE_RATE
        )
        mouth = render_mouth(url, self.avatar, np.asarray(clip, np.float32), self.mouth.box)
        heard = loudness(wave, AUDIO_RATE)
        sound = Points(first + np.arange(len(heard)) * 0.01, heard)
        order = np.argsort(shown)
        seen = Points(shown[order], opening[order])
        return compare(seen, sound, mouth.opening, mouth.loud, find(sound, mouth.loud))

    async def close(self) -> None:
        """End the connection."""
        await self.connection.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _listen_to_reports(self) -> None:
        """Note the sender's time of RTP timestamp 0 from each of its reports, s."""
        for receiver in self.connection.getReceivers():
            kind = receiver.track.kind
            noting = self._noting(kind, receiver, receiver._handle_rtcp_packet)
            receiver._handle_rtcp_packet = noting  # type: ignore[method-assign]

    def _noting(self, kind: str, receiver: Any, handle: Any) -> Any:
        rate = 90_000 if kind == "video" else AUDIO_RATE

        async def note(packet: Any) -> None:
            origin = receiver._RTCRtpReceiver__timestamp_mapper._origin
            if isinstance(packet, RtcpSrPacket) and origin is not None:
                info = packet.sender_info
                since = (info.rtp_timestamp - origin + 2**31) % 2**32 - 2**31
                self._reports[kind].append(info.ntp_timestamp / 2**32 - since / rate)
            await handle(packet)

        return note

    async def _take(self, track: MediaStreamTrack) -> None:
        with suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                now = time.monotonic()
                media = float((frame.pts or 0) * (frame.time_base or Fraction(0)))
                if isinstance(frame, VideoFrame):
                    self.frames.append((now, media, self._opening(frame)))
                elif isinstance(frame, AudioFrame):
                    samples = frame.to_ndarray().reshape(-1, len(frame.layout.channels))[:, 0]
                    self.blocks.append((now, media, (samples / 32768).astype(np.float32)))

    def _opening(self, frame: VideoFrame) -> float:
        if self.mouth is None:
            return 0.0
        grey = np.asarray(frame.to_ndarray(format="yuv420p")[: frame.height], np.uint8)
        return self.mouth.opening_of(crop_of(grey, self.mouth.box))
