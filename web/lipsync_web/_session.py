"""A live session with its viewers, its microphone and its uploads."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, suppress
from typing import Any

import numpy as np
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame
from av.audio.resampler import AudioResampler

from lipsync_client import AsyncLipSyncClient, LipSyncError, LiveFrame, LiveOptions, RenderOptions
from lipsync_client.protocol import FPS

from ._peer import Peer
from ._settings import WebSettings
from ._tracks import AUDIO_RATE, AccessUnitTrack, AudioTrack

_log = logging.getLogger("lipsync_web")
# x264's ultrafast makes the constrained baseline profile, which every WebRTC peer decodes.
_OPTIONS = RenderOptions(output="H264", encoder_options={"preset": "ultrafast", "crf": 23})


class WebSession:
    """One avatar that speaks to its viewers.

    Attributes:
        id: unguessable; whoever knows it may feed and end the session.
        avatar: its name.
        error: the sentence that ended the session; None while it runs or after a normal end.
    """

    def __init__(self, client: AsyncLipSyncClient, avatar: str, settings: WebSettings) -> None:
        self.id = secrets.token_urlsafe(16)
        self.avatar = avatar
        self.error: str | None = None
        self._settings = settings
        self._viewers: dict[Peer, tuple[AccessUnitTrack, AudioTrack]] = {}
        self._microphones: set[Peer] = set()
        self._feeding: set[asyncio.Task[None]] = set()  # uploads and microphones
        self._uploads: set[asyncio.Task[None]] = set()
        options = LiveOptions(rate=AUDIO_RATE, channels=1, stall_s=settings.stall_s)
        self._live = client.live(avatar, _OPTIONS, options)
        self._frames = self._repeated = 0
        self._idle = True
        self._shown: list[float] = []
        self._begun = self._watched_at = time.monotonic()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the live session at the server.

        Raises:
            LipSyncError: the server or the avatar is not there.
        """
        self._session = await self._live.__aenter__()
        self._task = asyncio.create_task(self._run())

    @property
    def ended(self) -> bool:
        """Return whether no more frames come."""
        return self._task is None or self._task.done()

    async def watch(self, offer: str) -> str:
        """Return the SDP answer to a viewer.

        Raises:
            Problem: the offer cannot be used.
        """
        tracks = (AccessUnitTrack(), AudioTrack())
        peer = Peer(self._settings.ice_servers, self._forget)
        try:
            answer = await peer.send_only(offer, tracks)
        except BaseException:
            await peer.close()
            raise
        self._viewers[peer] = tracks
        peer.drop_if_unconnected_after(self._settings.connect_timeout_s)
        return answer

    async def listen(self, offer: str) -> str:
        """Return the SDP answer to a microphone, whose audio the avatar speaks.

        Raises:
            Problem: the offer cannot be used.
        """
        peer = Peer(self._settings.ice_servers, self._forget)
        peer.connection.on("track", lambda track: self._keep(self._feed_track(track)))
        try:
            answer = await peer.receive_only(offer)
        except BaseException:
            await peer.close()
            raise
        self._microphones.add(peer)
        peer.drop_if_unconnected_after(self._settings.connect_timeout_s)
        return answer

    async def add_candidates(self, fragment: str) -> None:
        """Add trickled ICE candidates to the latest viewer."""
        if self._viewers:
            await list(self._viewers)[-1].add_candidates(fragment)

    async def close_microphones(self) -> None:
        """Stop listening."""
        for peer in list(self._microphones):
            await peer.close()

    def say(self, blocks: AsyncIterator[Any]) -> None:
        """Feed audio in the background: int16 or float32 blocks of mono at `AUDIO_RATE`."""

        async def feed() -> None:
            async for block in blocks:
                await self._session.feed(block)
            self._session.flush()

        upload = self._keep(feed())
        self._uploads.add(upload)
        upload.add_done_callback(self._uploads.discard)

    def interrupt(self) -> None:
        """Drop the queued audio, and stop feeding uploads."""
        for upload in self._uploads:
            upload.cancel()
        self._session.interrupt()

    def figures(self) -> dict[str, Any]:
        """Return the figures that the page shows."""
        now = time.monotonic()
        self._shown = [at for at in self._shown if at > now - 2]
        return {
            "id": self.id, "avatar": self.avatar, "ended": self.ended, "error": self.error,
            "viewers": len(self._viewers), "idle": self._idle, "frames": self._frames,
            "repeated": self._repeated, "fps": len(self._shown) / 2,
            "latency_s": round(self._session.latency_s, 3),
        }  # fmt: skip

    async def close(self) -> None:
        """End the session with all its peers."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            frames = self._session.__aiter__()
            async with aclosing(frames):
                async for frame in frames:
                    if not self._show(frame):
                        return
        except LipSyncError as e:
            self.error = str(e)
            _log.warning("session %s of %s ended: %s", self.id, self.avatar, e)
        finally:
            await self._end()

    def _show(self, frame: LiveFrame) -> bool:
        """Pass a frame to the viewers; return whether the session goes on."""
        now = time.monotonic()
        self._frames += 1
        self._idle = frame.idle
        if frame.video is None:
            self._repeated += 1
        else:
            self._shown.append(now)
            del self._shown[: -4 * FPS]
        for peer, (video, audio) in self._viewers.items():
            if peer.connected:
                self._watched_at = now
                video.push(frame)
                audio.push(frame)
        waiting = self._settings.connect_timeout_s if self._viewers else 0
        unwatched = now - self._watched_at > self._settings.unwatched_timeout_s + waiting
        return not unwatched and now - self._begun < self._settings.max_session_s

    async def _end(self) -> None:
        for task in list(self._feeding):
            task.cancel()
        await asyncio.gather(*self._feeding, return_exceptions=True)
        for tracks in self._viewers.values():
            for track in tracks:
                track.end()
        await asyncio.gather(*(p.close() for p in [*self._viewers, *self._microphones]))
        with suppress(LipSyncError):
            await self._live.__aexit__(None, None, None)

    async def _feed_track(self, track: MediaStreamTrack) -> None:
        """Feed the audio of a peer's microphone until it ends."""
        resampler = AudioResampler(format="flt", layout="mono", rate=AUDIO_RATE)
        with suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                assert isinstance(frame, AudioFrame)
                for block in resampler.resample(frame):
                    await self._session.feed(np.ascontiguousarray(block.to_ndarray()[0]))

    def _keep(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Start a task that feeds the session; its failure becomes the session's error."""
        task = asyncio.create_task(work)
        self._feeding.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._feeding.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                self.error = str(error)
                _log.warning("session %s: %s", self.id, error)

        task.add_done_callback(done)
        return task

    def _forget(self, peer: Peer) -> None:
        tracks = self._viewers.pop(peer, None)
        for track in tracks or ():
            track.end()
        self._microphones.discard(peer)
