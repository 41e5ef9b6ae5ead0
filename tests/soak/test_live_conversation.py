"""A conversation with bursts, pauses, interruptions and a stalled server at random, each frame checked.

It takes `LIPSYNC_CONVERSATION_SECONDS`, 30 minutes by default, under `make soak`, and 12 seconds otherwise.
"""

from __future__ import annotations

import asyncio
import os
import random
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from lipsync_client import AsyncLipSyncClient, LiveFrame, LiveSession, RenderOptions
from lipsync_embedded import Server
from support.live_simulation import noise, paced, with_pauses
from support.seams import Seam, Seams
from support.triton_calls import Triton

LONG_S = float(os.environ.get("LIPSYNC_CONVERSATION_SECONDS", "1800"))
LEAD = 16  # frames of silence before the session's own beginning
PERIOD = 18  # frames of a time round the toy avatar's loop
CHUNK = 32  # frames of an offline request
LAST = 200  # speaking frames at the end of a session
OFF = 320  # samples, 20 ms

pytestmark = pytest.mark.server


@dataclass
class Recorder:
    """The frames of a session, with a checksum in place of each image.

    Attributes:
        checksums: of the images; None where a frame was repeated.
        audio: of the frames.
        idle: the frames were idle.
    """

    checksums: list[int | None] = field(default_factory=list)
    audio: list[NDArray[np.float32]] = field(default_factory=list)
    idle: list[bool] = field(default_factory=list)

    def add(self, frame: LiveFrame) -> None:
        assert frame.index == len(self.checksums)
        assert frame.loop_index == frame.index % PERIOD
        self.checksums.append(None if frame.video is None else zlib.crc32(frame.video))
        self.audio.append(frame.audio[:, 0])
        self.idle.append(frame.idle)


class Conversation:
    """The calls of a session, drawn from a seed.

    Attributes:
        interruptions: the audio of each interrupted reply, the samples of it that were heard by what
            `interrupt()` returned, and the first frame after it.
        done: number of actions of each kind.
    """

    def __init__(self, session: LiveSession, recorder: Recorder, server: Server) -> None:
        self.interruptions: list[tuple[NDArray[np.float32], int, int]] = []
        self.done: dict[str, int] = {}
        self._session, self._recorder = session, recorder
        self._random = random.Random(14)
        # Only tritonserver itself: a Python model that is stopped while it holds a lock would end it.
        family = [psutil.Process(server.pid), *psutil.Process(server.pid).children()]
        self._stalled = [process for process in family if process.name() == "tritonserver"]
        assert self._stalled

    async def run(self, seconds: float) -> None:
        """Act for some seconds; each action at least once."""
        actions = [self.burst, self.pace, self.interrupt, self.interrupt_often, self.stall]
        end, number = asyncio.get_running_loop().time() + seconds, 0
        while number < len(actions) or asyncio.get_running_loop().time() < end:
            first_round = number < len(actions)
            act = actions[number] if first_round else self._random.choice(actions)
            self.done[act.__name__] = self.done.get(act.__name__, 0) + 1
            await act(number)
            await asyncio.sleep(self._random.uniform(0.0, 1.5))
            number += 1
        self._session.finish()

    async def burst(self, number: int) -> None:
        await self._session.feed(noise(self._random.uniform(0.1, 3.0), number))
        self._session.flush()

    async def pace(self, number: int) -> None:
        wave = with_pauses(noise(self._random.uniform(0.5, 4.0), number))
        await paced(self._session, wave, speed=self._random.choice([0.8, 1.0, 1.0, 3.0]))
        if self._random.random() < 0.5:
            self._session.flush()

    async def interrupt(self, number: int) -> None:
        self._cut(np.zeros(0, np.float32))  # the reply to interrupt is the only one
        wave = noise(4.0, number)
        await self._session.feed(wave)
        await asyncio.sleep(self._random.uniform(0.0, 3.0))
        self._cut(wave)

    async def interrupt_often(self, number: int) -> None:
        for n in range(10):
            await self._session.feed(noise(2.0, number + n))
            await asyncio.sleep(0.1)
            self._cut(np.zeros(0, np.float32))

    async def stall(self, number: int) -> None:
        await self._session.feed(noise(3.0, number))
        for process in self._stalled:
            process.suspend()
        await asyncio.sleep(self._random.uniform(0.2, 2.0))
        for process in self._stalled:
            process.resume()

    def _cut(self, wave: NDArray[np.float32]) -> None:
        heard, cut = self._session.interrupt(), len(self._recorder.checksums) + 1
        if len(wave):
            self.interruptions.append((wave, heard, cut))


class Reference:
    """The offline render of the recorded audio, and of parts of it."""

    def __init__(self, server: Server, recorder: Recorder) -> None:
        self._triton, self._audio = Triton(server, "grpc"), recorder.audio

    def checksums(
        self, first: int, count: int, seam: Seam | None = None, late: int = 0
    ) -> list[int]:
        """Return the checksums of some frames, made for a seam's audio or for audio `late` samples away."""
        begin = max(0, first - 40) // 5 * 5  # in five frames there are 16 columns, a whole number
        stop = first + count + 40 if seam is None else seam.end
        parts = [np.zeros(LEAD * 640, np.float32), *self._audio[begin:stop]]
        if seam is not None:
            parts.append(seam.tail)
        wave = np.concatenate([*parts, np.zeros((count + 80) * 640, np.float32)])
        wave = np.roll(wave, late)
        at = LEAD + first - begin
        offset = (first - at) % PERIOD
        frames = self._triton.frames("toy", wave, first=at, count=count, loop_offset=offset)
        return [zlib.crc32(frame) for frame in frames]

    def idle(self) -> list[int]:
        """Return the checksums of a time round the loop in silence."""
        wave = np.zeros((PERIOD + 80) * 640, np.float32)
        frames = self._triton.frames("toy", wave, first=16, count=PERIOD, loop_offset=-16 % PERIOD)
        return [zlib.crc32(frame) for frame in frames]


def check_frames(server: Server, recorder: Recorder, seams: Seams) -> int:
    """Check each frame against an offline render; return how many were compared."""
    reference, compared = Reference(server, recorder), 0
    idle, shown = reference.idle(), recorder.checksums
    for first in range(0, len(shown), CHUNK):
        count = min(CHUNK, len(shown) - first)
        for n, expected in enumerate(reference.checksums(first, count), first):
            if shown[n] is None:
                continue
            compared += 1
            if recorder.idle[n]:
                assert shown[n] == idle[n % PERIOD], f"idle frame {n}"
            elif shown[n] != expected:
                made_for_a_seam = any(
                    shown[n] == reference.checksums(n, 1, seam)[0] for seam in seams.of(n)
                )
                assert made_for_a_seam, f"frame {n}"
    return compared


def check_end(server: Server, recorder: Recorder, *, long: bool) -> str:
    """Check that video and audio are in step at the end, and that frames tell 20 ms; return the figures."""
    reference, shown = Reference(server, recorder), recorder.checksums
    moving = [n for n, idle in enumerate(recorder.idle) if not idle and shown[n] is not None]
    moving = moving[-LAST:]
    equal = {
        late: sum(shown[n] == reference.checksums(n, 1, late=late)[0] for n in moving)
        for late in (-OFF, 0, OFF)
    }
    assert equal[0] > max(equal[-OFF], equal[OFF])
    if long:  # the end of a short one on a busy machine may be mostly interruptions
        assert equal[0] > 0.5 * len(moving), "the others were made for a seam"
        assert max(equal[-OFF], equal[OFF]) < 0.1 * len(moving)
    return (
        f"of the last {len(moving)} speaking frames {equal[0]} are those of the audio that was given with"
        f" them, {equal[-OFF]} those of audio 20 ms earlier, {equal[OFF]} of audio 20 ms later"
    )


@pytest.mark.parametrize("seconds", [12.0, pytest.param(LONG_S, marks=pytest.mark.soak)])
@pytest.mark.timeout(2 * LONG_S + 600)
def test_video_and_audio_stay_together(second_server: Server, seconds: float) -> None:
    recorder = Recorder()
    options = RenderOptions(output="FRAMES")

    async def run() -> tuple[LiveSession, Conversation, Seams]:
        async with (
            AsyncLipSyncClient(second_server.grpc_url) as client,
            client.live("toy", options) as session,
        ):
            seams = Seams(session._audio)
            conversation = Conversation(session, recorder, second_server)
            acting = asyncio.create_task(conversation.run(seconds))
            async for frame in session:
                recorder.add(frame)
            await acting
        return session, conversation, seams

    session, conversation, seams = asyncio.run(run())
    compared = check_frames(second_server, recorder, seams)
    audio: NDArray[Any] = np.concatenate(recorder.audio)
    for wave, heard, cut in conversation.interruptions:
        played = audio[: cut * 640]
        assert np.array_equal(played[len(played) - heard :], wave[:heard]), "to the sample"
    print(check_end(second_server, recorder, long=seconds == LONG_S))
    print(f"{compared} of {len(recorder.checksums)} frames compared; {conversation.done}")
    print(session.report.as_dict())
    assert compared > 0
    assert {"burst", "pace", "interrupt", "interrupt_often", "stall"} == set(conversation.done)
