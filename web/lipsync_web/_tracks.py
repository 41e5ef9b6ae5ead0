"""WebRTC tracks of a live session: access units and audio, passed on without decoding the video."""

from __future__ import annotations

import asyncio
from fractions import Fraction
from typing import cast

import numpy as np
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame, Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from lipsync_client import LiveFrame
from lipsync_client._output.h264 import is_idr
from lipsync_client.protocol import FPS

AUDIO_RATE = 48_000  # Hz, Opus's own
VIDEO_CLOCK = 90_000  # Hz, of RTP's video timestamps (RFC 6184)
_PACKET_SAMPLES = AUDIO_RATE // 50  # 20 ms, the usual length of an Opus packet
_MAX_BACKLOG = FPS  # frames; a peer that is further behind continues at the next keyframe


class _FrameQueue(MediaStreamTrack):
    """A track that is fed with frames, and drops the oldest when its peer is too slow."""

    def __init__(self) -> None:
        super().__init__()
        self._items: asyncio.Queue[Packet[VideoStream] | AudioFrame | None] = asyncio.Queue()

    async def recv(self) -> Packet[VideoStream] | AudioFrame:
        """Return the next packet or audio frame.

        Raises:
            MediaStreamError: the track has ended.
        """
        item = None if self.readyState != "live" else await self._items.get()
        if item is None:
            self.stop()
            raise MediaStreamError
        return item

    def end(self) -> None:
        """End the track after what is queued."""
        self._items.put_nowait(None)

    def _drop(self) -> None:
        while not self._items.empty():
            self._items.get_nowait()


class AccessUnitTrack(_FrameQueue):
    """The video of a live session, as the server encoded it.

    Its timestamps begin with the first frame that is pushed, as aiortc's of the audio do, so that both tracks
    have one timeline. Each chunk of the server begins with an IDR frame, so a peer that lost packets recovers
    within a chunk; aiortc does not pass picture loss indications (PLI) to tracks of encoded packets.
    """

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self._waits_for_keyframe = True
        self._first: int | None = None  # index of the first frame

    def push(self, frame: LiveFrame) -> None:
        """Queue the access unit of a frame; a repeated frame has none, and nothing is sent for it."""
        if self._first is None:
            self._first = frame.index
        unit = frame.video
        if unit is None:
            return
        assert isinstance(unit, bytes)
        if self._items.qsize() > _MAX_BACKLOG:
            self._waits_for_keyframe = True
            self._drop()
        if self._waits_for_keyframe and not is_idr(unit):
            return
        self._waits_for_keyframe = False
        packet = cast("Packet[VideoStream]", Packet(unit))
        packet.pts = (frame.index - self._first) * (VIDEO_CLOCK // FPS)
        packet.time_base = Fraction(1, VIDEO_CLOCK)
        self._items.put_nowait(packet)


class AudioTrack(_FrameQueue):
    """The audio of a live session; aiortc encodes it to Opus."""

    kind = "audio"

    def push(self, frame: LiveFrame) -> None:
        """Queue the audio of a frame in packets of 20 ms."""
        if self._items.qsize() > 2 * _MAX_BACKLOG:
            self._drop()
        samples = to_int16(frame.audio)
        start = frame.index * len(samples)
        for begin in range(0, len(samples), _PACKET_SAMPLES):
            block = np.ascontiguousarray(samples[begin : begin + _PACKET_SAMPLES].T)
            packet = AudioFrame.from_ndarray(block[:1], "s16", "mono")
            packet.sample_rate = AUDIO_RATE
            packet.pts, packet.time_base = start + begin, Fraction(1, AUDIO_RATE)
            self._items.put_nowait(packet)


def to_int16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Return float samples in -1..1 as int16; values outside are clipped."""
    return (np.clip(samples, -1, 1) * 32767).astype(np.int16)
