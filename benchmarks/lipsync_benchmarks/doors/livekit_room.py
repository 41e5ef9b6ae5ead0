"""The LiveKit plugin in LiveKit's mock room: what its runner hands to LiveKit's synchroniser, and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import AsyncMock, create_autospec

import av
import numpy as np
from livekit import rtc
from livekit.agents.ipc.mock_room import create_mock_room
from livekit.agents.voice.avatar import AvatarRunner, QueueAudioOutput
from numpy.typing import NDArray

from livekit_lipsync import EncodedAvatarRunner, LipSyncVideoGenerator

from ..case import AVATAR
from ..tables import table
from .mouth import Mouth, crop_of
from .whep import BURST_S, percentiles

_RATE, _BLOCK = 16_000, 1_600
_REST_S = 1.5


class _Recorder:
    """The times of sound and of frames with an open mouth."""

    def __init__(self, mouth: Mouth) -> None:
        self._mouth = mouth
        self._decoder = av.CodecContext.create("h264", "r")
        self.frames = 0
        self.heard: list[float] = []
        self.spoke: list[float] = []

    def take(self, frame: Any) -> None:
        """Note what the runner hands on."""
        now = time.monotonic()
        if isinstance(frame, rtc.AudioFrame):
            self.heard.append(now)
            return
        self.frames += 1
        for grey in self._greys(frame):
            if self._mouth.opening_of(crop_of(grey, self._mouth.box)) > self._mouth.speaking:
                self.spoke.append(now)

    def _greys(self, frame: Any) -> list[NDArray[np.uint8]]:
        if isinstance(frame, rtc.VideoFrame):
            plane = np.frombuffer(frame.data, np.uint8)[: frame.width * frame.height]
            return [plane.reshape(frame.height, frame.width)]
        decoded: list[Any] = self._decoder.decode(av.Packet(frame.data))
        return [f.to_ndarray(format="yuv420p")[: f.height] for f in decoded]

    async def until_at_rest(self) -> None:
        """Wait until nothing was heard, and no open mouth handed on, for a while."""
        await _until(lambda: time.monotonic() - max([0.0, *self.heard, *self.spoke]) > _REST_S)


async def measure_livekit(url: str, clip: NDArray[np.float32], mouth: Mouth, replies: int) -> str:
    """Return the tables of raw and of encoded video."""
    runners: list[tuple[str, type[AvatarRunner]]] = [
        ("LiveKit, raw", AvatarRunner),
        ("LiveKit, H.264", EncodedAvatarRunner),
    ]
    return "".join(
        [await _measure(name, kind, url, clip, mouth, replies) for name, kind in runners]
    )


async def _measure(
    name: str,
    kind: type[AvatarRunner],
    url: str,
    clip: NDArray[np.float32],
    mouth: Mouth,
    replies: int,
) -> str:
    room = create_mock_room()
    publication = create_autospec(rtc.LocalTrackPublication, instance=True)
    room.local_participant.publish_track = AsyncMock(return_value=publication)
    generator = LipSyncVideoGenerator(
        url, AVATAR, sample_rate=_RATE, encoded=kind is EncodedAvatarRunner
    )
    options = await generator.start()
    output = QueueAudioOutput(sample_rate=_RATE)
    runner = kind(room, audio_recv=output, video_gen=generator, options=options)
    await runner.start()
    recorder, push = _Recorder(mouth), runner.av_sync.push

    async def record(frame: Any, timestamp: float | None = None) -> None:
        recorder.take(frame)
        await push(frame, timestamp)

    runner.av_sync.push = record  # type: ignore[method-assign]
    first_frame, first_sound, silence, rest = [], [], [], []
    try:
        await _until(lambda: recorder.frames > 25)
        for _ in range(replies):
            begun = await _say(output, clip, BURST_S)
            await _until(_both_after(recorder, begun))
            first_frame.append(min(at for at in recorder.spoke if at > begun) - begun)
            first_sound.append(min(at for at in recorder.heard if at > begun) - begun)
            await recorder.until_at_rest()
        for n in range(replies):
            begun = await _say(output, clip, 6.0)
            await _until(_both_after(recorder, begun))
            await asyncio.sleep(0.5 + 0.037 * (n % 17))
            begun = time.monotonic()
            output.clear_buffer()
            await recorder.until_at_rest()
            silence.append(max([begun, *recorder.heard]) - begun)
            rest.append(max([begun, *recorder.spoke]) - begun)
    finally:
        await runner.aclose()
        await generator.aclose()
    lines = [
        ["burst of 2 s to the first speaking frame, s", *percentiles(first_frame)],
        ["burst of 2 s to the first sound, s", *percentiles(first_sound)],
        ["clear_buffer to silence, s", *percentiles(silence)],
        ["clear_buffer to the mouth at rest, s", *percentiles(rest)],
    ]
    return f"\n{table([f'{name}, {replies} times', 'p50', 'p95'], lines)}"


async def _say(output: QueueAudioOutput, clip: NDArray[np.float32], seconds: float) -> float:
    """Give speech to the avatar at once; return the time before."""
    begun = time.monotonic()
    samples = (clip[: round(seconds * _RATE)] * 32767).astype(np.int16)
    for start in range(0, len(samples), _BLOCK):
        block = samples[start : start + _BLOCK]
        await output.capture_frame(rtc.AudioFrame(block.tobytes(), _RATE, 1, len(block)))
    output.flush()
    return begun


def _both_after(recorder: _Recorder, begun: float) -> Callable[[], bool]:
    return lambda: max([0.0, *recorder.heard]) > begun and max([0.0, *recorder.spoke]) > begun


async def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the avatar did not speak, or did not fall silent, within 120 s")
        await asyncio.sleep(0.005)
