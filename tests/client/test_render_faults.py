"""Renders that fail: bad input, full disks, servers that are gone, interruption."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lipsync_client import (
    LipSyncClient,
    OutputError,
    UnknownAvatar,
)
from lipsync_embedded import Server
from support.audio_files import broken_files, write_wav
from support.render_command import CLIENT, left_behind, run
from support.servers import urls


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
