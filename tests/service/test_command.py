"""`lipsync-client render` as a process: it writes the contract's video, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
import soundfile

from lipsync_embedded import Server
from service.test_encodings import i420
from support import oracle as contract
from support.oracle import Oracle
from support.triton_calls import shared_memory, speech

CLIENT = str(Path(sys.executable).with_name("lipsync-client"))
RATE = 44_100


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """2 s of stereo at 44.1 kHz; the right channel is another voice."""
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


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as video:
        return [frame.to_ndarray(format="yuv420p") for frame in video.decode(video=0)]


def sound(path: Path) -> np.ndarray:
    """float32 [channels, samples] from the file's first sample on."""
    with av.open(str(path)) as video:
        parts = [(frame.pts, frame.to_ndarray()) for frame in video.decode(audio=0)]
    assert parts[0][0] <= 0  # an encoder's delay lies before 0, and is not played
    return np.concatenate([part for _, part in parts], axis=1)[:, -min(0, parts[0][0]) :]


@pytest.mark.parametrize("protocol", ["grpc_url", "http_url"])
def test_every_picture_and_the_sound(
    server: Server, oracles: dict[str, Oracle], clip: Path, tmp_path: Path, protocol: str
) -> None:
    out = tmp_path / "out.mp4"
    url = str(getattr(server, protocol))
    done = run(
        "render", clip, "-o", out, "--avatar", "wide", "--crf", "0", "--chunk", "11", "--url", url
    )
    assert done.returncode == 0, done.stderr
    expected = oracles["wide"].render(contract.load_audio(clip))
    came = pictures(out)
    assert len(came) == len(expected) == 49
    for picture, frame in zip(came, expected, strict=True):
        difference = np.abs(picture.astype(int) - i420(frame))
        assert difference.max() <= 1
        assert (difference == 0).mean() >= 0.999
    original = soundfile.read(clip, dtype="float32")[0].T
    heard = sound(out)
    for channel, voice in enumerate(original):
        part = voice[8000:72_000]
        lags = range(-400, 401, 10)
        match = [np.corrcoef(heard[channel, 8000 + lag : 72_000 + lag], part)[0, 1] for lag in lags]
        best = int(np.argmax(match))
        assert abs(lags[best]) <= 20  # half a millisecond
        assert match[best] > 0.95


def test_a_player_may_start_before_the_end(server: Server, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    assert (
        run("render", clip, "-o", out, "--avatar", "toy", LIPSYNC_URL=server.grpc_url).returncode
        == 0
    )
    data = out.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


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


def test_a_video_as_the_source_of_sound(server: Server, clip: Path, tmp_path: Path) -> None:
    """The video that came out goes in again: its own pictures are of no account."""
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
    assert abs(len(pictures(second)) - len(pictures(first))) <= 2  # AAC rounds up to 1024 samples


def test_without_a_server(
    oracles: dict[str, Oracle], toy_repository: Path, clip: Path, tmp_path: Path
) -> None:
    """It starts one, keeps stdout clean, and takes everything with it."""
    out, scratch = tmp_path / "out.mp4", tmp_path / "scratch"
    scratch.mkdir()
    done = run(
        "render", clip, "-o", out, "--avatar", "toy", "--crf", "0", "--json",
        "--repository", toy_repository, TMPDIR=str(scratch), LIPSYNC_URL="",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frames"] == len(pictures(out)) == 49
    frame = oracles["toy"].render(contract.load_audio(clip))[30]
    assert np.abs(pictures(out)[30].astype(int) - i420(frame)).max() <= 1
    assert files(scratch) <= {".ses"}  # tritonserver's own
    assert files(tmp_path) == {"clip.wav", "out.mp4", "scratch"}
    assert servers_of(toy_repository) == []


def servers_of(repository: Path) -> list[int]:
    """Processes with an embedded server on a repository, but the session's own."""
    mine = {p.pid for p in psutil.Process().children(recursive=True)}
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(repository) in line and process.pid not in mine:
            found.append(process.pid)
    return found


def start_long_render(directory: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    """A render of two minutes, begun: its partial file grows."""
    long = write_clip(directory / "long.wav", 120)
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
    try:
        errors = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    return process.returncode, errors


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_stopped_halfway(server: Server, tmp_path: Path, number: signal.Signals, code: int) -> None:
    process = start_long_render(tmp_path, "--avatar", "toy", "--url", server.grpc_url)
    process.send_signal(number)
    came, errors = end_of(process)
    assert came == code
    assert "Traceback" not in errors
    assert files(tmp_path) == {"long.wav"}


def test_killed_it_takes_its_server_with_it(toy_repository: Path, tmp_path: Path) -> None:
    arguments = ("--avatar", "toy", "--repository", toy_repository)
    process = start_long_render(tmp_path, *arguments)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 6
    segments = shared_memory(p.pid for p in family)
    assert len(segments) > 3
    process.kill()
    end_of(process)
    _, alive = psutil.wait_procs(family, timeout=25)
    assert alive == []
    assert not [segment for segment in segments if segment.exists()]
    assert not (tmp_path / "out.mp4").exists()


def test_a_model_that_dies_while_rendering(toy_repository: Path, tmp_path: Path) -> None:
    """Triton's own answer, passed on; the server lives, and this avatar does not."""
    with Server(toy_repository, models=["toy"]) as doomed:
        process = start_long_render(tmp_path, "--avatar", "toy", "--url", doomed.http_url)
        stubs = psutil.Process(doomed.pid).children(recursive=True)
        next(p for p in stubs if "toy_compositor" in " ".join(p.cmdline())).kill()
        code, errors = end_of(process)
        # With a stub dead, tritonserver would wait ten seconds for it before it ends.
        psutil.Process(doomed.pid).children()[0].kill()
    assert code == 1
    assert "toy_compositor" in errors
    assert "Traceback" not in errors
    assert files(tmp_path) == {"long.wav"}


@pytest.mark.parametrize("protocol", ["grpc_url", "http_url"])
def test_a_server_that_hangs(
    toy_repository: Path, clip: Path, tmp_path: Path, protocol: str
) -> None:
    """Slow is not unreachable, and says so."""
    with Server(toy_repository, models=["toy"]) as stuck:
        triton = psutil.Process(stuck.pid).children()[0]
        stubs = triton.children(recursive=True)
        for process in stubs:
            process.suspend()
        try:
            url = str(getattr(stuck, protocol))
            begun = time.monotonic()
            done = run(
                "render", clip, "-o", tmp_path / "out.mp4", "--avatar", "toy",
                "--timeout", "2", "--url", url,
            )  # fmt: skip
            elapsed = time.monotonic() - begun
        finally:
            for process in stubs:
                process.resume()
    assert done.returncode == 1
    assert "2" in done.stderr
    assert "no server answers" not in done.stderr
    assert "Traceback" not in done.stderr
    assert elapsed < 20
    assert files(tmp_path) == {"clip.wav"}


def test_several_at_once(
    server: Server, oracles: dict[str, Oracle], clip: Path, tmp_path: Path
) -> None:
    """Four commands, two avatars, both protocols."""
    expected = {n: oracles[n].render(contract.load_audio(clip))[20] for n in ("toy", "wide")}
    running = []
    for n in range(4):
        avatar, url = ("toy", "wide")[n % 2], (server.grpc_url, server.http_url)[n // 2]
        out = tmp_path / f"{n}.mp4"
        command = [CLIENT, "render", str(clip), "-o", str(out), "--avatar", avatar, "--crf", "0"]
        running.append((avatar, out, subprocess.Popen([*command, "--url", url])))
    for avatar, out, process in running:
        assert process.wait(120) == 0
        came = pictures(out)
        assert len(came) == 49
        assert np.abs(came[20].astype(int) - i420(expected[avatar])).max() <= 1
