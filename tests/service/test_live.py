"""Live sessions with a real server: each frame belongs to the audio beside it, whatever happens."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from lipsync_client import (
    AsyncLipSyncClient,
    InputError,
    LipSyncClient,
    LiveEvent,
    LiveFrame,
    LiveOptions,
    LiveSession,
    RenderOptions,
)
from lipsync_embedded import Server
from support.live_recordings import (
    CALM,
    PERIOD,
    RAW,
    assert_exact,
    blocks,
    heard,
    reference,
    session_of,
    until,
)
from support.triton_calls import frames_made, speech


def test_frames_belong_to_the_audio_at_the_pace_of_speech(server: Server) -> None:
    wave = speech(3.0)

    async def act(session: LiveSession, frames: list[LiveFrame]) -> None:
        await until(frames, 20)
        session.feed_from(blocks(wave))

    frames, session = session_of(server, act)
    audio = heard(frames)
    at = int(np.argmax(audio != 0)) - int(np.argmax(wave != 0))
    if not session.report.waits:  # a busy machine may read the audio late
        assert np.array_equal(audio[at : at + len(wave)], wave), "not a sample is lost or put in"
    assert_exact(server, frames)
    assert not session.report.repeated
    assert frames[0].idle
    assert not frames[-3].idle
    latency = session.report.latency_s(5)
    assert latency is not None
    assert latency > 0.4525, "that much the models ask for"
    assert session.latency_s > 0.4525 + CALM.margin_s


def test_a_burst_is_played_whole_and_its_reply_ends(server: Server) -> None:
    """A synthesiser feeds faster than the audio is spoken, at another rate, before frames are taken."""
    wave = np.stack([speech(3.0, 1), speech(3.0, 2)], 1)[:48000]
    options = RenderOptions(output="FRAMES", loop_offset=7)
    events: list[LiveEvent] = []

    async def run() -> list[LiveFrame]:
        async with (
            AsyncLipSyncClient(server.grpc_url) as client,
            client.live(
                "toy", options, replace(CALM, rate=24000, channels=2), on_event=events.append
            ) as session,
        ):
            for part in np.array_split((wave * 32767).astype(np.int16), 7):  # of odd lengths
                await session.feed(part)
            session.finish()
            return [frame async for frame in session]

    frames = asyncio.run(run())
    assert len(frames) == 50
    audio = np.concatenate([f.audio for f in frames])
    assert audio.shape == (48000, 2)
    assert np.abs(audio - wave).max() < 1e-4
    assert all(f.video is not None for f in frames)
    assert [f.loop_index for f in frames] == [(7 + i) % PERIOD for i in range(50)]
    assert [f.index for f in frames if f.end_of_reply] == [49]
    kinds = ["first_audio", "first_frame", "playback_started", "playback_finished"]
    assert [event.kind for event in events] == kinds
    assert events[-1].position == 48000


def test_idle_frames_are_requested_once_by_all_sessions_of_a_client(server: Server) -> None:
    made: list[int] = []

    async def idle(client: AsyncLipSyncClient) -> list[LiveFrame]:
        frames: list[LiveFrame] = []
        async with client.live("toy", RAW, CALM) as session:
            async for frame in session:
                frames.append(frame)
                if len(frames) == 2 * PERIOD:
                    made.append(frames_made(server, "toy_generator"))
                if len(frames) == 4 * PERIOD:
                    return frames
        raise AssertionError("the frames ended")

    async def run() -> list[list[LiveFrame]]:
        async with AsyncLipSyncClient(server.grpc_url) as client:
            before = frames_made(server, "toy_generator")
            sessions = await asyncio.gather(*(idle(client) for _ in range(4)))
            made.append(frames_made(server, "toy_generator") - before)
            return sessions

    sessions = asyncio.run(run())
    for frames in sessions:
        assert all(f.idle for f in frames)
    assert_exact(server, sessions[0])
    assert made[-1] <= PERIOD, "each image of the loop, at most once in each direction"


def test_an_interruption_closes_the_mouth_and_returns_what_was_heard(server: Server) -> None:
    results: list[tuple[int, int]] = []

    async def act(session: LiveSession, frames: list[LiveFrame]) -> None:
        for number in (1, 2):
            await session.feed(speech(20.0, number))
            while not (len(frames) and frames[-1].audio.any()):
                await asyncio.sleep(0.005)
            await until(frames, len(frames) + 30)
            results.append((len(frames), session.interrupt()))
            await until(frames, len(frames) + 25)
        session.finish()

    frames, session = session_of(server, act)
    assert session.report.interruptions == 2
    speaking, idle = reference(server, heard(frames)), reference(server, np.zeros(640 * PERIOD))
    begin = 0
    for at, position in results:
        silent = next(n for n in range(at, len(frames)) if not frames[n].audio.any())
        assert silent - at <= 2, "within 100 ms of what was played"
        assert frames[silent - 1].end_of_reply
        spoken = [f.index for f in frames[begin:silent] if f.audio.any()]
        assert position == 640 * (silent - spoken[0]), "to the sample"
        closing = frames[silent : at + 20]
        assert any(not f.idle for f in closing), "the mouth closes in several frames"
        assert closing[-1].idle
        for frame in closing:
            expected = idle[frame.loop_index] if frame.idle else speaking[frame.index]
            assert np.array_equal(frame.video, expected), frame.index
        begin = silent
    assert [f.loop_index for f in frames] == [f.index % PERIOD for f in frames]


def test_rgb_i420_and_another_rate_of_the_audio(server: Server) -> None:
    wave = speech(1.0)

    async def frames_of(options: RenderOptions, live_options: LiveOptions) -> list[LiveFrame]:
        async with (
            AsyncLipSyncClient(server.grpc_url) as client,
            client.live("toy", options, live_options) as session,
        ):
            await session.feed(wave)
            session.finish()
            return [frame async for frame in session]

    async def run() -> list[list[LiveFrame]]:
        converted = replace(CALM, rgb=True, output_rate=48000, output_channels=2)
        return [
            await frames_of(RAW, CALM),
            await frames_of(RAW, converted),
            await frames_of(RenderOptions(output="I420"), CALM),
        ]

    bgr, rgb, i420 = asyncio.run(run())
    for one, other, planes in zip(bgr, rgb, i420, strict=True):
        assert np.array_equal(one.video[..., ::-1], other.video)
        assert other.video.flags.c_contiguous
        assert planes.video.shape == (360, 320)
        assert other.audio.shape == (1920, 2)
    upsampled = np.concatenate([f.audio[:, 0] for f in rgb])
    assert np.abs(upsampled[::3] - heard(bgr)).max() < 0.02


def test_for_callers_without_an_event_loop(server: Server) -> None:
    wave = speech(1.0)
    with (
        LipSyncClient(server.http_url) as client,
        client.live("toy", RenderOptions(output="JPEG"), CALM) as session,
    ):
        session.feed_from([wave[:7001], wave[7001:]])
        frames = list(session)
        with pytest.raises(InputError, match="takes no more audio"):
            session.feed(wave)
    assert any(f.video[:2] == b"\xff\xd8" for f in frames if f.video is not None)
    audio = heard(frames)
    at = int(np.argmax(audio != 0)) - int(np.argmax(wave != 0))
    assert np.array_equal(audio[at : at + len(wave)], wave)
