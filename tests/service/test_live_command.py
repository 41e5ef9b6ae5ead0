"""`lipsync-client live` as a process: PCM in, a container out that plays from 0 with its sound."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from lipsync_embedded import Server
from support.servers import end_server
from support.triton_calls import speech

CLIENT = str(Path(sys.executable).with_name("lipsync-client"))
# Tests share the cores with the server: more time than a caller would give.
CALM = ("--margin", "0.6")


def pcm(wave: NDArray[Any]) -> bytes:
    return (wave * 32767).astype("<i2").tobytes()


def start(server: Server, *arguments: str | Path, **kwargs: Any) -> subprocess.Popen[bytes]:
    """The command, with a pipe to it."""
    command = [CLIENT, "live", "--avatar", "toy", "--url", server.grpc_url, *CALM]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **kwargs,
    )


def feed(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Write speech to the command at once."""
    assert process.stdin is not None
    process.stdin.write(pcm(speech(seconds)))
    process.stdin.flush()


def wait_for(process: subprocess.Popen[bytes], state: bytes) -> None:
    """Read standard error up to the line that announces a state."""
    assert process.stderr is not None
    lines: list[bytes] = []
    while state not in (line := process.stderr.readline()):
        assert line, b"".join(lines).decode()
        lines.append(line)


def streams(source: Any) -> dict[str, tuple[float, float, int]]:
    """Return the begin, the end (seconds) and the number of frames of each stream."""
    times: dict[str, list[tuple[float, float]]] = {"video": [], "audio": []}
    with av.open(source) as container:
        for packet in container.demux():
            for frame in packet.decode():
                size = 0.04 if packet.stream.type == "video" else frame.samples / frame.sample_rate
                times[packet.stream.type].append((frame.time, frame.time + size))
    return {k: (v[0][0], v[-1][1], len(v)) for k, v in times.items()}


def assert_in_step(found: dict[str, tuple[float, float, int]], seconds: float) -> None:
    video, audio = found["video"], found["audio"]
    assert abs(video[0] - audio[0]) < 0.04
    assert -0.04 < audio[1] - video[1] < 1.5, "a busy machine repeats frames, also the last ones"
    assert video[1] - video[0] >= seconds


@pytest.mark.parametrize("container", ["ts", "fmp4", "flv"])
def test_to_standard_output(server: Server, tmp_path: Path, container: str) -> None:
    process = start(server, "-o", "-", "--container", container, "--json")
    out, err = process.communicate(pcm(speech(2.0)), timeout=60)
    assert process.returncode == 0, err
    (tmp_path / "out").write_bytes(out)
    assert_in_step(streams(str(tmp_path / "out")), 2.0)
    lines = err.decode().splitlines()
    figures = json.loads(lines[-1])
    assert figures["frames"] >= 50
    assert any("speaking" in line for line in lines)


def test_stereo_floats_from_a_named_pipe(server: Server, tmp_path: Path) -> None:
    fifo, out = tmp_path / "sound", tmp_path / "out.mp4"
    os.mkfifo(fifo)
    form = ("--rate", "48000", "--channels", "2", "--sample-format", "f32le")
    process = start(server, fifo, "-o", out, *form)
    wave = np.repeat(speech(3.0)[:, None], 2, 1).astype("<f4")
    with fifo.open("wb") as pipe:
        pipe.write(wave.tobytes())
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert_in_step(streams(str(out)), 1.0)
    with av.open(str(out)) as container:
        assert container.streams.audio[0].rate == 48000
        assert container.streams.audio[0].layout.name == "stereo"


def test_ctrl_c_completes_the_file_and_an_interruption_drops_what_waits(
    server: Server, tmp_path: Path
) -> None:
    out = tmp_path / "out.ts"
    process = start(server, "-o", out, "--json")
    feed(process, 10.0)
    wait_for(process, b"speaking")
    time.sleep(1.0)
    process.send_signal(signal.SIGUSR1)
    wait_for(process, b"idle")
    time.sleep(1.0)
    assert not out.exists()
    process.send_signal(signal.SIGINT)
    stdout, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    frames = json.loads(stdout)["frames"]
    assert 25 <= frames < 150
    assert_in_step(streams(str(out)), 1.0)
    assert [p.name for p in tmp_path.iterdir()] == ["out.ts"]


def assert_whole(copy: Path, err: bytes) -> None:
    found = streams(str(copy))
    assert found["video"][2] >= 40, (found, err.decode())
    assert found["audio"][2] >= 25, (found, err.decode())


def test_to_a_udp_address(server: Server, tmp_path: Path) -> None:
    copy, ended = tmp_path / "copy.ts", threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**23)
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(0.5)

        def receive() -> None:
            with copy.open("wb") as file:
                while True:
                    try:
                        file.write(receiver.recv(65536))
                    except TimeoutError:
                        if ended.is_set():
                            return

        receiving = threading.Thread(target=receive)
        receiving.start()
        try:
            process = start(server, "-o", f"udp://127.0.0.1:{receiver.getsockname()[1]}")
            _, err = process.communicate(pcm(speech(2.5)), timeout=60)
        finally:
            ended.set()
            receiving.join()
    assert process.returncode == 0, err
    assert_whole(copy, err)


def test_to_an_rtmp_address(server: Server, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address, copy = f"rtmp://127.0.0.1:{port}/live/key", tmp_path / "copy.ts"
    problems: list[Exception] = []

    def receive() -> None:
        try:
            with (
                av.open(address, options={"listen": "1"}, timeout=60) as source,
                av.open(str(copy), "w", format="mpegts") as target,
            ):
                pairs = {s.index: target.add_stream_from_template(s) for s in source.streams}
                for packet in source.demux():
                    if packet.dts is not None:
                        packet.stream = pairs[packet.stream.index]
                        target.mux(packet)
        except (av.FFmpegError, OSError) as e:
            problems.append(e)

    receiving = threading.Thread(target=receive, daemon=True)
    receiving.start()
    deadline = time.monotonic() + 60
    while all(c.laddr[1:] != (port,) for c in psutil.Process().net_connections("inet") if c.laddr):
        assert time.monotonic() < deadline, f"nothing listens at port {port}"
        time.sleep(0.1)
    process = start(server, "-o", address)
    _, err = process.communicate(pcm(speech(2.5)), timeout=60)
    assert process.returncode == 0, err
    receiving.join(60)
    assert copy.exists(), problems
    assert_whole(copy, err)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-o", "out.avi"], 2, "expected rtmp://"),
        (["-o", "-", "--container", "mkv"], 2, "cannot be written to a pipe"),
        (["-o", "out.ts", "--rate", "11030"], 1, "multiple of 25"),
        (["nothing.pcm", "-o", "out.ts"], 1, "nothing.pcm: No such file"),
        (["-o", "nowhere/out.ts"], 1, "does not exist"),
        (["-o", "rtmp://127.0.0.1:9/live/key"], 1, "cannot be written"),
    ],
)
def test_mistakes(
    server: Server, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    process = start(server, *arguments, cwd=tmp_path)
    _, err = process.communicate(pcm(speech(0.3)), timeout=60)
    assert process.returncode == code, err
    assert message in err.decode()
    assert "Traceback" not in err.decode()
    assert not list(tmp_path.iterdir())


def test_bytes_that_are_no_whole_sample_are_left_out(server: Server, tmp_path: Path) -> None:
    process = start(server, "-o", tmp_path / "out.ts")
    _, err = process.communicate(pcm(speech(0.6)) + b"x", timeout=60)
    assert process.returncode == 0, err
    assert_in_step(streams(str(tmp_path / "out.ts")), 0.5)


def test_a_lost_server_leaves_what_was_recorded(toy_server: Server, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    process = start(toy_server, "-o", out, "--reconnect-timeout", "3")
    feed(process, 2.0)
    wait_for(process, b"speaking")
    time.sleep(1.0)
    end_server(toy_server)
    with suppress(BrokenPipeError):  # it may have ended before it read all of them
        feed(process, 30.0)
    stdout, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert b"lipsync-client: " in err
    assert b"Traceback" not in err
    assert b"frames in" in stdout
    found = streams(str(out))
    video, audio = found["video"], found["audio"]
    assert abs(video[0] - audio[0]) < 0.04
    assert video[1] - video[0] >= 0.8
    assert audio[1] > video[1] - 0.04 - 1024 / 16000, (
        "the last frame is repeated while audio goes on"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_host_that_says_nothing_does_not_hold_the_command(
    server: Server, number: signal.Signals
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = start(server, "-o", f"rtmp://127.0.0.1:{listener.getsockname()[1]}/live/key")
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(1)
            process.send_signal(signal.SIGUSR1)  # no reply yet: nothing to interrupt
            time.sleep(0.2)
            assert process.poll() is None
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
    assert process.returncode == -number, err
    assert b"Traceback" not in err
