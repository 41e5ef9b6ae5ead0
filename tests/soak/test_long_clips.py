"""Memory does not grow with the clip."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from lipsync_embedded import Server

CLIENT = str(Path(sys.executable).with_name("lipsync-client"))


def write_clip(path: Path, seconds: int) -> Path:
    """Noise that comes and goes, written block by block."""
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", 16000, 1, "PCM_16") as file:
        for second in range(seconds):
            file.write(0.1 * (second % 2) * rng.standard_normal(16000))
    return path


def peak_mb(server: Server, clip: Path, output: Path) -> float:
    """Peak memory of a client rendering a clip."""
    command = [CLIENT, "render", str(clip), "-o", str(output), "--avatar", "toy"]
    process = subprocess.Popen([*command, "--url", server.grpc_url], stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        for line in status.splitlines():
            if line.startswith("VmHWM"):
                peak = max(peak, int(line.split()[1]))
        time.sleep(0.02)
    assert process.wait() == 0
    return peak / 1024


def server_mb(server: Server) -> float:
    family = psutil.Process(server.pid).children(recursive=True)
    return float(sum(p.memory_full_info().uss for p in family) / 2**20)


@pytest.mark.parametrize(
    ("short", "long"),
    [(8, 40), pytest.param(60, 3600, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])],
)
def test_memory_does_not_grow_with_the_clip(
    server: Server, tmp_path: Path, short: int, long: int
) -> None:
    short_clip = write_clip(tmp_path / "short.wav", short)
    long_clip = write_clip(tmp_path / "long.wav", long)
    first = peak_mb(server, short_clip, tmp_path / "short.mp4")
    before = server_mb(server)
    second = peak_mb(server, long_clip, tmp_path / "long.mp4")
    after = server_mb(server)
    print(f"client {first:.0f} -> {second:.0f} MB, server {before:.0f} -> {after:.0f} MB")
    assert second <= 1.2 * first
    assert after <= 1.1 * before
