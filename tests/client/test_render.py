"""The library and the command against the real server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import psutil
import pytest

import lipsync_client
from lipsync_client import (
    AsyncLipSyncClient,
    LipSyncClient,
    OutputError,
    RenderOptions,
    UnknownAvatar,
)
from lipsync_embedded import Server
from support import oracle as contract
from support.audio_files import broken_files, write_wav
from support.oracle import Oracle

CLIENT = str(Path(sys.executable).with_name("lipsync-client"))


pytestmark = pytest.mark.server


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "clip.wav", 22050, 2, seconds=3)


def urls(server: Server) -> list[str]:
    return [server.grpc_url, server.http_url]


def run(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    command = [CLIENT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload,no-any-return]


def left_behind(directory: Path) -> list[str]:
    return sorted(
        p.name for p in directory.iterdir() if ".partial" in p.name or p.name == "out.mp4"
    )


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


def test_overwriting_is_refused_before_any_work(server: Server, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    out.write_text("precious")
    arguments = ("render", clip, "-o", out, "--avatar", "toy", "--url", server.grpc_url)
    done = run(*arguments)
    assert done.returncode == 1
    assert "--force replaces it" in done.stderr
    assert out.read_text() == "precious"
    assert run(*arguments, "--force").returncode == 0
    assert out.stat().st_size > 1000


@pytest.mark.parametrize("name", ["none.wav", "text.wav", "silent.mp4", "headers.wav"])
def test_what_is_no_sound(server: Server, tmp_path: Path, name: str) -> None:
    bad = broken_files(tmp_path)[name]
    done = run(
        "render", bad, "-o", tmp_path / "out.mp4", "--avatar", "toy", "--url", server.grpc_url
    )
    assert done.returncode == 1
    assert name in done.stderr
    assert "Traceback" not in done.stderr
    assert left_behind(tmp_path) == []


def test_usage_errors_exit_with_2(clip: Path, tmp_path: Path) -> None:
    assert run("render", clip, "--avatar", "toy").returncode == 2
    assert run("render", clip, "-o", tmp_path / "out.mp4").returncode == 2
    assert run("render", clip, "-o", "a.mp4", "--avatar", "toy", "--crf", "99").returncode == 2


def test_unknown_avatar(server: Server, clip: Path, tmp_path: Path) -> None:
    for url in urls(server):
        done = run("render", clip, "-o", tmp_path / "out.mp4", "--avatar", "nobody", "--url", url)
        assert done.returncode == 1
        assert "nobody" in done.stderr
    with (
        LipSyncClient(server.grpc_url) as client,
        pytest.raises(UnknownAvatar, match="not an avatar"),
    ):
        client.avatar("mel")


def test_a_refusal_is_passed_on(server: Server, clip: Path, tmp_path: Path) -> None:
    arguments = ("-o", tmp_path / "out.mp4", "--avatar", "toy", "--url", server.grpc_url)
    done = run("render", clip, *arguments, "--preset", "best")
    assert done.returncode == 1
    assert "preset must be one of" in done.stderr
    assert left_behind(tmp_path) == []
    done = run("render", clip, *arguments, "--chunk", "33")
    assert done.returncode == 1
    assert "1 to 32 frames" in done.stderr


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_unreachable(clip: Path, tmp_path: Path, scheme: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"{scheme}://127.0.0.1:{probe.getsockname()[1]}"
        done = run("render", clip, "-o", tmp_path / "out.mp4", "--avatar", "toy", "--url", url)
    assert done.returncode == 1
    assert "no server answers at" in done.stderr
    assert left_behind(tmp_path) == []


def test_bad_url(clip: Path, tmp_path: Path) -> None:
    done = run(
        "render", clip, "-o", tmp_path / "out.mp4", "--avatar", "toy", "--url", "localhost:8001"
    )
    assert done.returncode == 1
    assert "grpc://HOST:PORT or http://HOST:PORT" in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system takes root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("kind", ["mp4", "png"])
def test_a_full_disk(server: Server, tmp_path: Path, small_disk: Path, kind: str) -> None:
    long = write_wav(tmp_path / "long.wav", 16000, 1, seconds=8)
    video = ["-o", str(small_disk / "out.mp4"), "--crf", "1"]
    target = video if kind == "mp4" else ["--frames-dir", str(small_disk / "f")]
    done = run("render", long, *target, "--avatar", "wide", "--url", server.grpc_url)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(small_disk.iterdir()) == []


def test_a_missing_directory(server: Server, clip: Path, tmp_path: Path) -> None:
    with (
        LipSyncClient(server.grpc_url) as client,
        pytest.raises(OutputError, match="does not exist"),
    ):
        client.render_to_file(clip, tmp_path / "no" / "out.mp4", "toy")


@pytest.mark.parametrize("protocol", [0, 1])
def test_a_server_killed_while_rendering(toy_server: Server, tmp_path: Path, protocol: int) -> None:
    long = write_wav(tmp_path / "long.wav", 16000, 1, seconds=120)
    out = tmp_path / "out.mp4"
    command = [CLIENT, "render", str(long), "-o", str(out), "--avatar", "toy"]
    process = subprocess.Popen(
        [*command, "--url", urls(toy_server)[protocol]], stderr=subprocess.PIPE, text=True
    )
    wait_for_partial(tmp_path)
    os.kill(psutil.Process(toy_server.pid).children()[0].pid, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "stopped answering" in errors
    assert left_behind(tmp_path) == []


@pytest.mark.server
def test_interrupted_with_an_embedded_server(toy_repository: Path, tmp_path: Path) -> None:
    """Other signals, and renders without a server of their own, are in tests/service/test_command.py."""
    long = write_wav(tmp_path / "long.wav", 16000, 1, seconds=120)
    command = [CLIENT, "render", str(long), "-o", str(tmp_path / "out.mp4"), "--avatar", "toy"]
    process = subprocess.Popen(
        [*command, "--repository", str(toy_repository)], stderr=subprocess.PIPE, text=True
    )
    wait_for_partial(tmp_path)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 6
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert left_behind(tmp_path) == []


def wait_for_partial(directory: Path) -> None:
    """Until the render has begun to write."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(p.stat().st_size > 10_000 for p in directory.glob(".*partial*")):
            return
        time.sleep(0.02)
    pytest.fail("the render did not begin")


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
