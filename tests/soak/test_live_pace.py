"""Ten minutes live: 25 frames a second, memory flat, lips and sound together at the end."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
import soundfile
from motion import face_rect
from numpy.typing import NDArray
from scipy.signal import correlate

from lipsync_embedded import Server
from support.demo_motion import pose_of
from support.mouth_opening import opening
from support.toy_avatars import ROOT

CLIENT = str(Path(sys.executable).with_name("lipsync-client"))
HELD_OUT = ROOT / "tests/demo/held_out"
RATE, SECONDS = 16_000, 600
pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def clip() -> tuple[NDArray[Any], NDArray[Any]]:
    """A held-out clip, and how far the mouth should be open in each of its frames."""
    wave, rate = soundfile.read(HELD_OUT / "woman.flac", dtype="int16")
    assert rate == RATE
    opening_of_frames = np.array(json.loads((HELD_OUT / "woman.json").read_text())["opening"])
    return wave[: len(opening_of_frames) * 640], opening_of_frames


def memory_mb(server: Server, client: psutil.Process) -> tuple[float, float]:
    family = psutil.Process(server.pid).children(recursive=True)
    return (
        client.memory_full_info().uss / 2**20,
        sum(p.memory_full_info().uss for p in family) / 2**20,
    )


def ending(path: Path, seconds: int) -> tuple[NDArray[Any], dict[int, float]]:
    """The last of the sound, with its start at the returned first frame; and the mouth's opening by frame."""
    wave, open_ = np.zeros((SECONDS + 60) * RATE, np.float32), {}
    with av.open(str(path)) as container:
        start = container.start_time / av.time_base
        for packet in container.demux():
            for frame in packet.decode():
                at = frame.time - start
                if packet.stream.type == "audio":
                    sound = frame.to_ndarray()[0]
                    first = round(at * RATE)
                    wave[first : first + len(sound)] = sound
                elif at >= SECONDS - seconds:
                    number = round(at * 25)
                    x1, y1, x2, y2 = face_rect(pose_of(number))
                    picture = frame.to_ndarray(format="bgr24")
                    open_[number] = opening(picture[y1:y2, x1:x2])
    return wave, open_


def test_ten_minutes_at_the_pace_of_life(
    demo_server: Server, clip: tuple[NDArray[Any], NDArray[Any]], tmp_path: Path
) -> None:
    sound, wanted = clip
    out = tmp_path / "live.ts"
    command = [CLIENT, "live", "--avatar", "demo", "-o", str(out), "--json"]
    process = subprocess.Popen(
        [*command, "--url", demo_server.grpc_url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    # Audio that is fed before it listens would wait in the pipe, and add to the latency for good.
    said = [process.stderr.readline()]
    assert b"idle" in said[0], said
    memory: list[tuple[float, float]] = []

    def talk() -> None:
        assert process.stdin is not None
        begun, block = time.monotonic(), RATE // 50
        endless = np.concatenate([np.tile(sound, 2 + SECONDS * RATE // len(sound))])
        for n in range(SECONDS * 50):
            time.sleep(max(0.0, begun + n / 50 - time.monotonic()))
            process.stdin.write(endless[n * block : (n + 1) * block].tobytes())
            process.stdin.flush()
            if n % 3000 == 2999:
                memory.append(memory_mb(demo_server, psutil.Process(process.pid)))
        process.stdin.close()

    talking = threading.Thread(target=talk)
    talking.start()
    talking.join()
    assert process.stdout is not None
    figures = json.loads(process.stdout.read() or "null")
    assert process.wait() == 0, process.stderr.read()
    process.stdout.close()
    process.stderr.close()
    client, server = zip(*memory, strict=True)
    print(figures)
    print(f"MB a minute: client {np.round(client)}, server {np.round(server)}")

    heard, open_ = ending(out, 60)
    tail = heard[(SECONDS - 60) * RATE : SECONDS * RATE]
    source = sound.astype(np.float32)
    at = (SECONDS - 60) * RATE + int(np.argmax(correlate(tail, source, "valid")))
    # The clip's frame j lies at at/640 + j; where the pictures put it is the best match around there.
    match, inner = [], range(10, len(wanted) - 10)
    shifts = np.arange(-6, 7)
    for shift in shifts:
        numbers = [round(at / 640) + shift + j for j in inner]
        pairs = [(open_[n], wanted[j]) for j, n in zip(inner, numbers, strict=True) if n in open_]
        match.append(np.corrcoef(np.array(pairs).T)[0, 1])
    best = int(np.argmax(match))
    left, mid, right = match[best - 1 : best + 2]
    peak = shifts[best] + 0.5 * (left - right) / (left - 2 * mid + right)
    offset_ms = 40 * (peak + round(at / 640) - at / 640)
    print(f"picture after sound at the end: {offset_ms:.1f} ms (correlation {mid:.3f})")

    assert abs(offset_ms) < 40
    assert mid > 0.85
    assert figures["frames"] >= SECONDS * 25
    assert figures["seconds"] < SECONDS + 3
    assert figures["repeated"] <= 0.01 * figures["frames"]
    assert client[-1] <= 1.1 * client[0]
    assert server[-1] <= 1.1 * server[0]
