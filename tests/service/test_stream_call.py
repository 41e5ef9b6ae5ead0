"""`stream` of the library: the frames of `render`, from one call."""

from __future__ import annotations

import asyncio
import gc
import queue
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tritonclient.grpc as triton_grpc

from lipsync_client import (
    AsyncLipSyncClient,
    InputError,
    LipSyncClient,
    Rejected,
    RenderOptions,
    ServerTimeout,
    UnknownAvatar,
    Unreachable,
    _stream,
)
from lipsync_client._transports.request import Output
from lipsync_embedded import Server
from support.triton_calls import frames_made, infer_inputs, speech

NOBODY = "grpc://127.0.0.1:9"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    soundfile.write(path, speech(3.0), 16_000)
    return path


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "long.wav"
    soundfile.write(path, speech(120.0), 16_000)
    return path


def quietly(work: Callable[[], Awaitable[None]]) -> None:
    """Run something in an event loop, which it must leave without tasks and complaints."""
    complaints: list[dict[str, Any]] = []

    async def watched() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: complaints.append(context))
        await work()
        await asyncio.sleep(0.1)
        gc.collect()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(watched())
    gc.collect()
    assert complaints == []


@pytest.mark.parametrize("output", ["FRAMES", "JPEG", "H264"])
def test_frames_are_those_of_render(server: Server, clip: Path, output: Output) -> None:
    options = RenderOptions(output, chunk=16, loop_offset=3, encoder_options={"crf": 30})

    async def work() -> None:
        async with AsyncLipSyncClient(server.grpc_url) as client:
            rendered = [chunk async for chunk in client.render(clip, "toy", options)]
            streamed = [chunk async for chunk in client.stream(clip, "toy", options)]
        # A stream has smaller chunks of raw frames, and render what the options say.
        starts = list(range(0, 80, 8)) if output == "FRAMES" else [0, 8, 24, 40, 56, 72]
        assert [c.start for c in streamed] == starts
        assert [c.start for c in rendered] == [0, 8, 24, 40, 56, 72]
        one, other = (np.concatenate([c.frames for c in chunks]) for chunks in (streamed, rendered))
        assert one.shape == other.shape
        assert np.array_equal(one, other)

    quietly(work)


def test_without_an_event_loop(server: Server, clip: Path) -> None:
    with LipSyncClient(server.grpc_url) as client:
        options = RenderOptions("JPEG")
        frames = [f for chunk in client.stream(clip, "toy", options) for f in chunk.frames]
        assert frames == [f for chunk in client.render(clip, "toy", options) for f in chunk.frames]


def test_leaving_early_ends_the_work(server: Server, long_clip: Path) -> None:
    async def work() -> None:
        async with AsyncLipSyncClient(server.grpc_url) as client:
            async with aclosing(client.stream(long_clip, "toy")) as chunks:
                async for chunk in chunks:
                    assert chunk.start == 0
                    break
            await asyncio.sleep(0.5)  # the chunks in flight are finished
            before = frames_made(server, "toy_generator")
            await asyncio.sleep(1.0)
            assert frames_made(server, "toy_generator") - before <= 3 * 16

    quietly(work)


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.02, 0.1, 0.3])
def test_cancelled_at_any_moment(server: Server, long_clip: Path, after_s: float) -> None:
    async def work() -> None:
        async with AsyncLipSyncClient(server.grpc_url) as client:

            async def all_of_it() -> None:
                async for _ in client.stream(long_clip, "toy"):
                    pass

            task = asyncio.create_task(all_of_it())
            await asyncio.sleep(after_s)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    quietly(work)


@pytest.mark.parametrize(
    ("avatar", "options", "error", "message"),
    [
        ("nobody", RenderOptions(), UnknownAvatar, "nobody"),
        ("mel", RenderOptions(), UnknownAvatar, "mel is a model of the server, but not an avatar"),
        (
            "toy",
            RenderOptions(encoder_options={"crf": 99}),
            Rejected,
            "crf must be an integer from 0 to 51, got 99",
        ),
        ("toy", RenderOptions(loop_offset=2**60), Rejected, "LOOP_OFFSET must be within"),
        ("toy", RenderOptions(timeout_s=0.001), ServerTimeout, r"did not answer within 0\.001 s"),
        (
            "toy",
            RenderOptions(total_timeout_s=0.3),
            ServerTimeout,
            r"the clip was not done within 0\.3 s",
        ),
    ],
)
def test_errors(
    server: Server,
    long_clip: Path,
    avatar: str,
    options: RenderOptions,
    error: type[Exception],
    message: str,
) -> None:
    async def work() -> None:
        async with AsyncLipSyncClient(server.grpc_url) as client:
            with pytest.raises(error, match=message):
                async for _ in client.stream(long_clip, avatar, options):
                    pass

    quietly(work)


def test_a_request_that_cannot_be_written_is_no_cancellation(server: Server, clip: Path) -> None:
    async def work() -> None:
        async with AsyncLipSyncClient(server.grpc_url) as client:
            for refused in ({"timeout": 3}, {"triton_x": 3}):
                with pytest.raises(Exception, match=r"reserved parameter|could not be written"):
                    async for _ in client.stream(
                        clip, "toy", RenderOptions(encoder_options=refused)
                    ):
                        pass

    quietly(work)


def test_http_is_told_of_render(server: Server, clip: Path) -> None:
    with (
        LipSyncClient(server.http_url) as client,
        pytest.raises(InputError, match=r"needs gRPC .* `render` makes the same frames"),
    ):
        next(client.stream(clip, "toy"))


def test_one_of_several_servers(server: Server, clip: Path) -> None:
    """Neither one that is gone nor one that is asked over HTTP is in the way."""
    for urls in (f"{NOBODY},{server.grpc_url}", f"{server.http_url},{server.grpc_url}"):
        with LipSyncClient(urls) as client:
            for _ in range(3):
                assert sum(len(c.frames) for c in client.stream(clip, "toy")) == 74


def test_nobody_answers(clip: Path) -> None:
    with (
        LipSyncClient(NOBODY) as client,
        pytest.raises(Unreachable, match="no server answers at"),
    ):
        next(client.stream(clip, "toy"))


def test_a_clip_too_long_for_one_call(
    server: Server, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_stream, "_MOST_SAMPLES", 16_000)
    with (
        LipSyncClient(server.grpc_url) as client,
        pytest.raises(InputError, match="do not fit into one call; `render` takes any length"),
    ):
        next(client.stream(clip, "toy"))


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_requests_say_who_asks_and_for_which_frame(
    server: Server, clip: Path, protocol: str
) -> None:
    """In the server's log, which has a line for each refusal."""
    url = server.grpc_url if protocol == "grpc" else server.http_url
    moved = RenderOptions(loop_offset=2**60)
    before = len(server.log_tail(1_000_000))
    with LipSyncClient(url) as client, pytest.raises(Rejected, match="LOOP_OFFSET"):
        next(client.render(clip, "toy", moved))
    logged = server.log_tail(1_000_000)[before:]
    ids = re.findall(r"([0-9a-f]{8})-(\d+)\b", logged)
    assert "0" in {frame for _, frame in ids}, logged
    assert len({who for who, _ in ids}) == 1, logged


def test_an_error_as_a_status_ends_the_stream_and_not_the_server(server: Server) -> None:
    """Triton's other way to say it, which a caller may ask for."""
    tensors = {"AUDIO": speech(1.0), "AVATAR": np.array(["toy"], object)}
    inputs = infer_inputs(triton_grpc, tensors)
    for parameters, count in (({"crf": 99}, 0), (None, 1)) * 3:
        responses: queue.Queue[Any] = queue.Queue()
        with triton_grpc.InferenceServerClient(server.grpc_url.split("//")[1]) as client:
            client.start_stream(
                lambda result, error, to=responses: to.put(result or error),
                headers={"triton_grpc_error": "true"},
            )
            client.async_stream_infer("stream", inputs, parameters=parameters)
            first = responses.get(timeout=60)
            client.stop_stream()
        if count:
            assert len(first.as_numpy("H264")) == 8
        else:
            assert "crf must be an integer from 0 to 51, got 99" in str(first)
    time.sleep(0.5)
    assert server.poll() is None
