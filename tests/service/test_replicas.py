"""Several servers as one: nothing is lost when one dies, hangs, or loses a process."""

from __future__ import annotations

import asyncio
import random
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import soundfile
import tritonclient.http as triton_http

from lipsync_client import (
    AsyncLipSyncClient,
    LipSyncClient,
    LiveOptions,
    LiveSession,
    RenderOptions,
    ServerError,
    Unreachable,
)
from lipsync_client._transports.addresses import parse_urls
from lipsync_client._transports.connect import connect
from lipsync_client._transports.request import Credentials, Output, Request, Tensor
from lipsync_client._transports.response_cache import ResponseCache
from lipsync_embedded import Server
from support.servers import harm
from support.triton_calls import assert_counted, frames_made, speech

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    soundfile.write(path, speech(6.0), 16_000)
    return path


def render(
    urls: str,
    clip: Path,
    options: RenderOptions | None = None,
    after: tuple[int, Callable[[], None]] | None = None,
) -> list[bytes]:
    """Return the frames of a clip; after a number of chunks something else may be done."""
    frames: list[bytes] = []
    with LipSyncClient(urls) as client:
        chunks = client.render(clip, "toy", options or RenderOptions(output="JPEG", chunk=8))
        for number, chunk in enumerate(chunks):
            if after is not None and number == after[0]:
                after[1]()
            frames.extend(chunk.frames)
    return frames


@pytest.fixture(scope="module")
def undisturbed(server: Server, clip: Path) -> list[bytes]:
    return render(server.grpc_url, clip)


def test_both_do_their_share(server: Server, toy_server: Server, clip: Path) -> None:
    def made(one: Server) -> int:
        with triton_http.InferenceServerClient(one.http_url.removeprefix("http://")) as client:
            statistics = client.get_inference_statistics("toy")
        return int(statistics["model_stats"][0]["inference_stats"]["success"]["count"])

    before = made(server), made(toy_server)
    render(f"{server.grpc_url},{toy_server.grpc_url}", clip)
    # On a busy machine some requests are sent to both.
    assert_counted(lambda: made(server) + made(toy_server), sum(before) + 19, beyond=19)
    shares = [made(s) - b for s, b in zip((server, toy_server), before, strict=True)]
    assert min(shares) >= 5


@pytest.mark.parametrize(
    ("protocol", "how"),
    [
        ("grpc", "killed"),
        ("grpc", "stopped"),
        ("grpc", "loses a stub"),
        ("http", "killed"),
        pytest.param("http", "stopped", marks=pytest.mark.soak),
        pytest.param("http", "loses a stub", marks=pytest.mark.soak),
    ],
)
def test_a_replica_that_fails_loses_nothing(
    server: Server,
    toy_server: Server,
    clip: Path,
    undisturbed: list[bytes],
    how: str,
    protocol: str,
) -> None:
    urls = ",".join(s.grpc_url if protocol == "grpc" else s.http_url for s in (toy_server, server))
    at = random.Random(how + protocol).randrange(1, 10)
    strike = partial(harm, toy_server, how)
    assert render(urls, clip, after=(at, strike)) == undisturbed
    assert render(urls, clip) == undisturbed, "the failed one is still among the URLs"


@pytest.mark.parametrize("protocol", ["grpc", pytest.param("http", marks=pytest.mark.soak)])
def test_the_only_server_may_come_back(
    toy_repository: Path, clip: Path, undisturbed: list[bytes], protocol: str
) -> None:
    """A render and a live session go on after an absence that is shorter than their timeouts."""
    live_options = LiveOptions(reconnect_timeout_s=120.0)

    async def work(first: Server) -> list[bytes]:
        url = first.grpc_url if protocol == "grpc" else first.http_url
        port: dict[str, Any] = {f"{protocol}_port": int(url.rpartition(":")[2])}
        async with (
            AsyncLipSyncClient(url, reconnect_timeout_s=120.0) as client,
            client.live("toy", RenderOptions("JPEG"), live_options) as session,
        ):
            shown = asyncio.Event()
            showing = asyncio.create_task(show(session, shown))
            frames: list[bytes] = []
            chunks = client.render(clip, "toy", RenderOptions("JPEG", chunk=8, in_flight=1))
            async for chunk in chunks:
                frames.extend(chunk.frames)
                if chunk.start == 0:
                    await asyncio.wait_for(shown.wait(), 120)
                    await asyncio.to_thread(first.stop)
                    second = Server(toy_repository, models=["toy"], **port)
                    await asyncio.to_thread(second.start)
                    shown.clear()
            try:
                await asyncio.wait_for(shown.wait(), 120)
            finally:
                showing.cancel()
                await asyncio.gather(showing, return_exceptions=True)
                await asyncio.to_thread(second.stop)
        return frames

    async def show(session: LiveSession, shown: asyncio.Event) -> None:
        """Speak, so that each frame must be rendered, and tell when one comes."""
        voice = speech(0.2)
        speaking = asyncio.create_task(speak(session, voice))
        try:
            async for frame in session:
                if frame.video is not None and not frame.idle:
                    shown.set()
        finally:
            speaking.cancel()

    async def speak(session: LiveSession, voice: Tensor) -> None:
        while True:
            await session.feed(voice)
            await asyncio.sleep(0.2)

    with Server(toy_repository, models=["toy"]) as first:
        assert asyncio.run(work(first)) == undisturbed


def test_a_server_that_never_answered_is_not_waited_for(clip: Path) -> None:
    with pytest.raises(Unreachable, match="no server answers at"):
        render("grpc://127.0.0.1:9,grpc://127.0.0.1:11", clip)


def test_a_full_server_is_asked_again(server: Server, toy_repository: Path, tmp_path: Path) -> None:
    """Its generator takes one request and refuses more than one waiting."""
    soundfile.write(tmp_path / "short.wav", speech(4.0), 16_000)
    clip = tmp_path / "short.wav"
    expected = render(server.grpc_url, clip)
    shutil.copytree(toy_repository, tmp_path / "models", symlinks=True)
    config = tmp_path / "models/toy_generator/config.pbtxt"
    text = config.read_text()
    limit = re.compile(r"max_queue_size: \d+")
    assert len(limit.findall(text)) == 1
    config.write_text(limit.sub("max_queue_size: 1", text))
    with Server(tmp_path / "models", models=["toy"]) as own:
        options = RenderOptions(output="JPEG", chunk=8, in_flight=12)
        assert render(own.grpc_url, clip, options) == expected
        assert render(own.http_url, clip, options) == expected


def test_the_whole_clip_has_its_time(server: Server, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", speech(300.0), 16_000)
    with pytest.raises(ServerError, match=r"not done within 0\.5 s"):
        render(
            server.grpc_url,
            tmp_path / "long.wav",
            RenderOptions(output="JPEG", total_timeout_s=0.5),
        )


def test_health_sees_a_dead_stub(second_server: Server) -> None:
    with LipSyncClient(second_server.grpc_url) as client:
        assert all(client.health().values())
        harm(second_server, "loses a stub")
        states = client.health()
    assert not states["toy"]
    assert not states["toy_compositor"]
    assert states["wide"]


def test_health_of_several(server: Server) -> None:
    async def ask() -> dict[str, bool]:
        async with AsyncLipSyncClient(f"{server.grpc_url},grpc://127.0.0.1:9") as client:
            return await client.health()

    states = asyncio.run(ask())
    assert states[f"{server.grpc_url} toy"]
    assert not states["grpc://127.0.0.1:9 server"]


def test_resume_asks_only_for_what_is_missing(server: Server, clip: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    with LipSyncClient(server.grpc_url) as client:
        client.render_to_file(clip, whole, "toy", RenderOptions(chunk=8))

        def stop(done: int, _expected: int | None) -> None:
            if done > 50:
                raise RuntimeError("the plug is out")

        with pytest.raises(RuntimeError, match="the plug is out"):
            client.render_to_file(
                clip, out, "toy", RenderOptions(chunk=8), resume=True, progress=stop
            )
        kept = list((tmp_path / ".out.mp4.chunks").glob("*.response"))
        assert len(kept) >= 6
        assert not out.exists()
        before = frames_made(server, "toy_generator")
        client.render_to_file(clip, out, "toy", RenderOptions(chunk=8), resume=True)
    assert out.read_bytes() == whole.read_bytes()
    missing = 149 - 8 * len(kept)
    # Requests that were in flight when the first try ended may be counted only now.
    assert_counted(lambda: frames_made(server, "toy_generator"), before + missing, beyond=3 * 8)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.mp4", "whole.mp4"]


def test_kept_responses_are_those_of_the_server(server: Server, tmp_path: Path) -> None:
    async def ask(output: Output, moved: int = 0) -> tuple[Tensor, int]:
        replicas = await connect(parse_urls(server.grpc_url), Credentials(), 1.0)
        inputs = {"AUDIO": speech(0.5), "LOOP_OFFSET": np.array([moved], np.int64)}
        with ResponseCache(replicas, tmp_path / "kept") as cache:
            response = await cache.infer(Request("toy", inputs, output), 60.0)
        await replicas.close()
        return response, cache.found

    for output in get_args(Output)[:2]:
        first, again = asyncio.run(ask(output)), asyncio.run(ask(output))
        assert (first[1], again[1]) == (0, 1)
        assert np.array_equal(first[0], again[0])
    assert asyncio.run(ask("JPEG", moved=1))[1] == 0
