"""Outputs to a pipe: the same bytes, at the reader's pace, until the reader leaves or a signal comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
import soundfile
from numpy.typing import NDArray

from lipsync_embedded import Server
from support.media_files import assert_in_step, video_frames
from support.triton_calls import Triton, speech

CLIENT = str(Path(sys.executable).with_name("lipsync-client"))
PipedRender = Callable[..., "subprocess.Popen[bytes]"]


@pytest.mark.parametrize("name", ["bgr24", "rgb24"])
def test_raw_frames(server: Server, clips: Path, tmp_path: Path, name: str) -> None:
    command = [CLIENT, "render", str(clips / "pcm.wav"), "-o", "-", "--format", name]
    command += ["--avatar", "toy", "--url", server.grpc_url, "--json"]
    done = subprocess.run(command, capture_output=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert b'"frames": 49' in done.stderr
    wave = soundfile.read(clips / "pcm.wav", dtype="float32")[0]
    triton = Triton(server, "grpc")
    frames = [triton.frames("toy", wave, first=first, count=n) for first, n in ((0, 32), (32, 17))]
    expected = np.concatenate(frames)
    if name == "rgb24":
        expected = expected[..., ::-1]
    actual = np.frombuffer(done.stdout, np.uint8).reshape(-1, *expected.shape[1:])
    assert np.array_equal(actual, expected)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("container", ["fmp4", "ts"])
def test_video_plays_while_it_grows(
    server: Server, clips: Path, mp4: Path, tmp_path: Path, container: str
) -> None:
    command = [CLIENT, "render", str(clips / "pcm.wav"), "-o", "-", "--container", container]
    command += ["--avatar", "toy", "--url", server.grpc_url, "--crf", "10"]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    whole, part = tmp_path / "whole", tmp_path / "part"
    whole.write_bytes(done.stdout)
    assert_in_step(whole, 49)
    assert np.array_equal(video_frames(whole), video_frames(mp4))
    part.write_bytes(done.stdout[: len(done.stdout) // 2])
    frames: list[NDArray[Any]] = []
    with av.open(str(part)) as video, suppress(av.FFmpegError):  # where it was cut
        frames.extend(f.to_ndarray(format="yuv420p") for f in video.decode(video=0))
    assert len(frames) >= 8
    assert np.array_equal(frames[:8], video_frames(mp4)[:8])


@pytest.fixture
def piped_render(server: Server, tmp_path: Path) -> Iterator[PipedRender]:
    """A function that starts a long render to a pipe and returns it when the first bytes have come."""
    clip = tmp_path / "long.wav"
    soundfile.write(clip, np.tile(speech(2), 30), 16000)
    running = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        command = [CLIENT, "render", str(clip), "-o", "-", *arguments]
        command += ["--avatar", "toy", "--url", server.grpc_url]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        running.append(process)
        assert process.stdout is not None
        assert len(os.read(process.stdout.fileno(), 1000)) > 0
        return process

    yield start
    for process in running:
        process.kill()
        with process:  # closes its pipes
            pass


def connections(pid: int) -> list[Any]:
    """Return the open connections of a process to others."""
    return [c for c in psutil.Process(pid).net_connections("tcp") if c.raddr]


@pytest.mark.parametrize("arguments", [("--format", "bgr24"), ("--container", "fmp4")])
def test_a_reader_that_leaves(piped_render: PipedRender, arguments: tuple[str, str]) -> None:
    """The render ends without a message, as any filter does."""
    process = piped_render(*arguments)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(60) == 1
    assert process.stderr.read() == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_reader_hangs(piped_render: PipedRender, number: signal.Signals) -> None:
    """A full pipe does not delay the end."""
    process = piped_render("--format", "bgr24")
    time.sleep(1)  # until the pipe is full
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()


def test_a_signal_while_a_fifo_has_no_reader(server: Server, clips: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    command = [CLIENT, "render", str(clips / "pcm.wav"), "-o", str(fifo), "--container", "ts"]
    command += ["--avatar", "toy", "--url", server.grpc_url]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    port, deadline = int(server.grpc_url.split(":")[-1]), time.monotonic() + 60
    while port not in [c.raddr.port for c in connections(process.pid)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == b"lipsync-client: interrupted\n"
