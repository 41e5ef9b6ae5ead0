"""The library and the command against the real server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

import lipsync_client
from lipsync_client import (
    AsyncLipSyncClient,
    LipSyncClient,
    RenderOptions,
)
from lipsync_embedded import Server
from support import oracle as contract
from support.oracle import Oracle
from support.render_command import left_behind, run
from support.servers import urls

pytestmark = pytest.mark.server


@pytest.mark.parametrize(("protocol", "chunk"), [(0, 1), (1, 7), (0, None), (1, None)])
def test_frames_equal_the_oracle(
    server: Server, oracles: dict[str, Oracle], clip: Path, protocol: int, chunk: int | None
) -> None:
    expected = oracles["toy"].render(contract.load_audio(clip))
    with LipSyncClient(urls(server)[protocol]) as client:
        chunks = list(client.render(clip, "toy", RenderOptions(output="FRAMES", chunk=chunk)))
    frames = np.concatenate([c.frames for c in chunks])
    assert [c.start for c in chunks] == np.cumsum(
        [0, *(len(c.frames) for c in chunks[:-1])]
    ).tolist()
    difference = np.abs(frames.astype(int) - np.stack(expected))
    assert difference.max() <= 1
    assert (difference == 0).mean() >= 0.999


def test_async_and_sync_have_the_same_methods() -> None:
    def public(cls: type) -> set[str]:
        return {name for name in vars(cls) if not name.startswith("_")}

    assert public(AsyncLipSyncClient) - {"aclose"} == public(LipSyncClient) - {"close"}


def test_the_async_client(server: Server, clip: Path) -> None:
    async def work() -> int:
        async with AsyncLipSyncClient(server.grpc_url) as client:
            return sum([len(c.frames) async for c in client.render(clip, "toy")])

    assert asyncio.run(work()) == contract_frames(clip)


def contract_frames(clip: Path) -> int:
    return contract.window_count(1 + len(contract.load_audio(clip)) // 200) + 2


def test_public_names() -> None:
    """A change of the public names is a decision, and belongs into the changelog."""
    assert lipsync_client.__all__ == [
        "AsyncLipSyncClient",
        "Avatar",
        "BlockingLiveSession",
        "Chunk",
        "ClientClosed",
        "FormatError",
        "Incompatible",
        "InputError",
        "LipSyncClient",
        "LipSyncError",
        "LiveEvent",
        "LiveFrame",
        "LiveOptions",
        "LiveReport",
        "LiveSession",
        "NotAllowed",
        "OutputError",
        "OutputFormat",
        "Overloaded",
        "PipeClosed",
        "QueueTimeout",
        "Rejected",
        "RenderOptions",
        "RenderSummary",
        "ServerError",
        "ServerLost",
        "ServerTimeout",
        "UnknownAvatar",
        "Unreachable",
        "UnsupportedProcess",
        "protocol",
        "to_error",
    ]
    for name in lipsync_client.__all__:
        assert getattr(lipsync_client, name).__doc__, name


@pytest.mark.parametrize("protocol", [0, 1])
def test_video(server: Server, clip: Path, tmp_path: Path, protocol: int) -> None:
    out = tmp_path / "out.mp4"
    done = run(
        "render", clip, "-o", out, "--avatar", "wide", "--url", urls(server)[protocol], "--json"
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["frames"] == contract_frames(clip)
    with av.open(str(out)) as file:
        video, audio = file.streams.video[0], file.streams.audio[0]
        assert (video.codec_context.width, video.codec_context.height) == (1280, 720)
        assert video.average_rate == 25
        assert video.codec_context.name == "h264"
        assert audio.codec_context.name == "aac"
        assert audio.codec_context.sample_rate == 22050
        assert len(audio.codec_context.layout.channels) == 2
        assert video.start_time == 0
        assert audio.start_time == 0
        frames = list(file.decode(video=0))
        assert [f.pts * f.time_base for f in frames] == [
            n * video.time_base * 512 for n in range(len(frames))
        ]
        lengths = [float(s.duration * s.time_base) for s in (video, audio)]
    assert len(frames) == summary["frames"]
    # One frame, one AAC frame, and what the contract's own count leaves off.
    assert abs(lengths[0] - lengths[1]) < 1 / 25 + 1024 / 22050 + 1 / 25
    assert left_behind(tmp_path) == ["out.mp4"]


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_images(
    server: Server, oracles: dict[str, Oracle], clip: Path, tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "frames"
    done = run(
        "render",
        clip,
        "--frames-dir",
        out,
        "--format",
        kind,
        "--avatar",
        "toy",
        "--url",
        server.grpc_url,
    )
    assert done.returncode == 0, done.stderr
    files = sorted(out.iterdir())
    assert [f.name for f in files] == [f"{n:06d}.{kind}" for n in range(contract_frames(clip))]
    expected = oracles["toy"].render(contract.load_audio(clip))[40]
    difference = np.abs(cv2.imread(str(files[40])).astype(int) - expected)
    assert difference.max() <= 1 if kind == "png" else difference.mean() < 10


def test_commands_about_the_server(server: Server) -> None:
    for url in urls(server):
        avatars = run("avatars", "--url", url)
        assert avatars.stdout.splitlines() == [
            "toy: 320x240, 10 frames, up to 32 frames per request",
            "wide: 1280x720, 4 frames, up to 32 frames per request",
        ]
        health = run("health", "--url", url, "--json")
        assert health.returncode == 0
        assert json.loads(health.stdout)["toy_compositor"] is True
        assert " 2.51.0 at " in run("info", "--url", url).stdout
