"""`lipsync-client render` as a process: it writes the contract's video and leaves nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
import soundfile
from numpy.typing import NDArray

from lipsync_embedded import Server
from support import oracle as contract
from support.decoded_frames import i420
from support.media_files import video_frames
from support.oracle import Oracle
from support.servers import end_server
from support.triton_calls import shared_memory, speech

CLIENT = str(Path(sys.executable).with_name("lipsync-client"))
RATE = 44_100


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Two seconds of stereo at 44.1 kHz; the right channel is another voice."""
    return write_clip(tmp_path / "clip.wav", 2.0)


def write_clip(path: Path, seconds: float) -> Path:
    left, right = (speech(seconds * RATE / 16000, seed)[: int(seconds * RATE)] for seed in (0, 3))
    soundfile.write(path, np.stack([left, right], 1), RATE)
    return path


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CLIENT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )


def files(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def decoded_audio(path: Path) -> NDArray[Any]:
    """Return float32 (channels, samples) from time 0 on."""
    with av.open(str(path)) as video:
        parts = [(frame.pts, frame.to_ndarray()) for frame in video.decode(audio=0)]
    assert parts[0][0] <= 0  # an encoder's delay lies before 0 and is not played
    samples = np.concatenate([part for _, part in parts], axis=1)
    return np.asarray(samples[:, -min(0, parts[0][0]) :])


@pytest.mark.parametrize("protocol", ["grpc_url", "http_url"])
def test_every_frame_and_the_audio(
    server: Server, oracles: dict[str, Oracle], clip: Path, tmp_path: Path, protocol: str
) -> None:
    out = tmp_path / "out.mp4"
    url = str(getattr(server, protocol))
    done = run(
        "render", clip, "-o", out, "--avatar", "wide", "--crf", "0", "--chunk", "11", "--url", url
    )
    assert done.returncode == 0, done.stderr
    expected = oracles["wide"].render(contract.load_audio(clip))
    actual = video_frames(out)
    assert len(actual) == len(expected) == 49
    for image, frame in zip(actual, expected, strict=True):
        difference = np.abs(image.astype(int) - i420(frame))
        assert difference.max() <= 1
        assert (difference == 0).mean() >= 0.999
    original = soundfile.read(clip, dtype="float32")[0].T
    audio = decoded_audio(out)
    for channel, voice in enumerate(original):
        part = voice[8000:72_000]
        lags = range(-400, 401, 10)
        match = [np.corrcoef(audio[channel, 8000 + lag : 72_000 + lag], part)[0, 1] for lag in lags]
        best = int(np.argmax(match))
        assert abs(lags[best]) <= 20  # half a millisecond
        assert match[best] > 0.95


def test_a_player_can_start_before_the_end(server: Server, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    assert (
        run("render", clip, "-o", out, "--avatar", "toy", LIPSYNC_URL=server.grpc_url).returncode
        == 0
    )
    data = out.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


@pytest.mark.soak
def test_the_contracts_own_count(server: Server, tmp_path: Path) -> None:
    """718,147 samples make 1,121 frames."""
    clip, out = tmp_path / "clip.wav", tmp_path / "out.mp4"
    soundfile.write(clip, np.zeros(718_147), 16_000)
    done = run("render", clip, "-o", out, "--avatar", "toy", "--json", "--url", server.grpc_url)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frames"] == 1121
    with av.open(str(out)) as video:
        assert sum(packet.size > 0 for packet in video.demux(video=0)) == 1121
        assert video.streams.video[0].frames == 1121
        assert video.streams.video[0].average_rate == 25


def test_a_video_as_the_source_of_audio(server: Server, clip: Path, tmp_path: Path) -> None:
    """A rendered video is rendered again: only its audio counts."""
    first, second = tmp_path / "first.mp4", tmp_path / "second.mp4"
    for source, target in ((clip, first), (first, second)):
        done = run(
            "render",
            source,
            "-o",
            target,
            "--avatar",
            "toy",
            "--crf",
            "0",
            "--url",
            server.grpc_url,
        )
        assert done.returncode == 0, done.stderr
    assert (
        abs(len(video_frames(second)) - len(video_frames(first))) <= 2
    )  # AAC rounds up to 1024 samples


@pytest.mark.server
def test_without_a_server(
    oracles: dict[str, Oracle], toy_repository: Path, clip: Path, tmp_path: Path
) -> None:
    """The command starts a server, writes nothing else to standard output, and leaves no process or file."""
    out, scratch = tmp_path / "out.mp4", tmp_path / "scratch"
    scratch.mkdir()
    done = run(
        "render", clip, "-o", out, "--avatar", "toy", "--crf", "0", "--json",
        "--repository", toy_repository, TMPDIR=str(scratch), LIPSYNC_URL="",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frames"] == len(video_frames(out)) == 49
    frame = oracles["toy"].render(contract.load_audio(clip))[30]
    assert np.abs(video_frames(out)[30].astype(int) - i420(frame)).max() <= 1
    assert files(scratch) <= {".ses"}  # a folder of tritonserver's own
    assert files(tmp_path) == {"clip.wav", "out.mp4", "scratch"}
    assert servers_of(toy_repository) == []


def servers_of(repository: Path) -> list[int]:
    """Return the processes of embedded servers on a repository, without this session's own."""
    mine = {p.pid for p in psutil.Process().children(recursive=True)}
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(repository) in line and process.pid not in mine:
            found.append(process.pid)
    return found


def start_long_render(directory: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    """Start a render of two minutes and return when its partial file has begun to grow."""
    long = directory / "long.wav"
    soundfile.write(long, np.tile(speech(10.0), 12), 16_000)
    command = [CLIENT, "render", str(long), "-o", str(directory / "out.mp4"), *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if any(p.stat().st_size > 10_000 for p in directory.glob(".*partial*")):
            return process
        time.sleep(0.02)
    process.kill()
    pytest.fail(f"the render did not begin: {process.communicate()[1]}")


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the end of a process and return its exit code and its standard error."""
    try:
        errors = process.communicate(timeout=120)[1]
    finally:
        process.kill()
    return process.returncode, errors


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_during_a_render(
    server: Server, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = start_long_render(tmp_path, "--avatar", "toy", "--url", server.grpc_url)
    process.send_signal(number)
    actual, errors = end_of(process)
    assert actual == code
    assert "Traceback" not in errors
    assert files(tmp_path) == {"long.wav"}


@pytest.mark.server
def test_the_embedded_server_of_a_killed_render_ends(toy_repository: Path, tmp_path: Path) -> None:
    arguments = ("--avatar", "toy", "--repository", toy_repository)
    process = start_long_render(tmp_path, *arguments)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 6
    segments = shared_memory(p.pid for p in family)
    assert len(segments) > 3
    process.kill()
    end_of(process)
    _, alive = psutil.wait_procs(family, timeout=90)
    assert alive == []
    assert not [segment for segment in segments if segment.exists()]
    assert not (tmp_path / "out.mp4").exists()


def test_a_model_that_dies_during_a_render(toy_server: Server, tmp_path: Path) -> None:
    """The command passes Triton's own error on; the server lives on without this avatar."""
    process = start_long_render(tmp_path, "--avatar", "toy", "--url", toy_server.http_url)
    stubs = psutil.Process(toy_server.pid).children(recursive=True)
    next(p for p in stubs if "toy_compositor" in " ".join(p.cmdline())).kill()
    code, errors = end_of(process)
    assert code == 1
    assert "toy_compositor" in errors
    assert "Traceback" not in errors
    assert files(tmp_path) == {"long.wav"}


@pytest.mark.parametrize("protocol", ["grpc_url", "http_url"])
def test_a_server_that_hangs(toy_server: Server, clip: Path, tmp_path: Path, protocol: str) -> None:
    """The error is a timeout, not an unreachable server."""
    stubs = psutil.Process(toy_server.pid).children()[0].children(recursive=True)
    for process in stubs:
        process.suspend()
    try:
        done = run(
            "render", clip, "-o", tmp_path / "out.mp4", "--avatar", "toy",
            "--timeout", "2", "--url", str(getattr(toy_server, protocol)),
        )  # fmt: skip
    finally:
        end_server(toy_server)  # it may not recover
    assert done.returncode == 1
    assert "2" in done.stderr
    assert "no server answers" not in done.stderr
    assert "Traceback" not in done.stderr
    assert files(tmp_path) == {"clip.wav"}


def test_renders_beside_one_another(
    server: Server, oracles: dict[str, Oracle], tmp_path: Path
) -> None:
    """Run four commands at once: two avatars, both protocols."""
    clip = write_clip(tmp_path / "short.wav", 1.0)
    expected = {n: oracles[n].render(contract.load_audio(clip))[20] for n in ("toy", "wide")}
    running = []
    for n in range(4):
        avatar, url = ("toy", "wide")[n % 2], (server.grpc_url, server.http_url)[n // 2]
        out = tmp_path / f"{n}.mp4"
        command = [CLIENT, "render", str(clip), "-o", str(out), "--avatar", avatar, "--crf", "0"]
        running.append((avatar, out, subprocess.Popen([*command, "--url", url])))
    for avatar, out, process in running:
        assert process.wait(120) == 0
        actual = video_frames(out)
        assert len(actual) == 24
        assert np.abs(actual[20].astype(int) - i420(expected[avatar])).max() <= 1
