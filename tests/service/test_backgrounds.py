"""The compositor's decoded frames: kept once where they do not change, and once for all instances."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lipsync_backgrounds import UNIT, Backgrounds, write_backgrounds
from lipsync_frames import AvatarFrames
from numpy.typing import NDArray

from lipsync_preprocessing.avatar.pack import write_pack
from lipsync_preprocessing.dataset import read_dataset
from support.toy_avatars import ROOT
from support.toy_datasets import COUNT, make_raw

MODULES = ROOT / "model_repository/demo_compositor/1"
# Say which memory file this process maps once it has the content, and end when standard input does.
INSTANCE = """
import sys
from lipsync_shared import shared_memory
def write(file):
    for _ in range(64):
        file.write(bytes(1 << 20))
    if sys.argv[2] == "hang":
        print("writing", flush=True)
        sys.stdin.read()
    print("written", flush=True)
memory = shared_memory(sys.argv[1], write)
with open("/proc/self/maps") as maps:
    print({line.split()[4] for line in maps if sys.argv[1] in line}, memory.size, flush=True)
sys.stdin.read()
"""


def composed(avatar: AvatarFrames) -> list[NDArray[Any]]:
    patch = np.random.default_rng(1).integers(0, 256, (320, 320, 3), np.uint8)
    frames = []
    for k in range(len(avatar)):
        frames.append(np.empty(avatar.i420_shape, np.uint8))
        avatar.compose_i420(k, patch, frames[-1])
    return frames


def kept(avatar: AvatarFrames) -> int:
    avatar.preload()
    return 0 if avatar._backgrounds is None else len(avatar._backgrounds)


@pytest.mark.parametrize("masks", [False, True])
def test_frames_are_the_same_however_many_stay_decoded(masks: bool, tmp_path: Path) -> None:
    pack = tmp_path / "frames.npz"
    write_pack(read_dataset(make_raw(tmp_path / "d", masks=masks)), pack, tmp_path / "faces.raw")
    expected = composed(AvatarFrames(pack, 0))
    counts = set()
    for budget in (0, 100, 100_000, 1 << 24):
        avatar = AvatarFrames(pack, budget)
        counts.add(kept(avatar))
        for plain, came in zip(expected, composed(avatar), strict=True):
            np.testing.assert_array_equal(came, plain)
    assert {0, COUNT} < counts  # and some number between


@pytest.mark.parametrize("size", [UNIT * 9, UNIT * 9 + 6, UNIT - 2])
def test_what_equals_the_frame_before_is_kept_once(size: int) -> None:
    rng = np.random.default_rng(3)
    frame = rng.integers(0, 256, size, np.uint8)
    frames = []
    for k in range(40):
        frame = frame.copy()
        frame[k : k + 3] ^= 255
        frames.append((frame, rng.integers(0, 256, (5, 4, 3), np.uint8)))
    file = io.BytesIO()
    write_backgrounds(file, frames, 1 << 20, size)
    memory = np.frombuffer(file.getvalue(), np.uint8)
    came = Backgrounds(memory)
    assert len(came) == 40
    for k, (whole, region) in enumerate(frames):
        out = np.empty(size, np.uint8)
        came.copy_frame(k, out)
        np.testing.assert_array_equal(out, whole)
        np.testing.assert_array_equal(came.region(k, 5, 4), region)
    if size > UNIT:  # at most two units of a frame are new, and one is for the region
        assert memory.size < 40 * (3 * UNIT + 4 * 11) + 10 * UNIT


def instance(name: str, behaviour: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", INSTANCE, name, behaviour],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(MODULES)},
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_instances_share_one_memory(tmp_path: Path) -> None:
    name = f"lipsync-test-{tmp_path.name}-{os.getpid()}"
    running = [instance(name) for _ in range(4)]
    try:
        lines = [said(process) for process in running]
        assert lines.count("written") == 1
        maps = {line if line != "written" else said(running[k]) for k, line in enumerate(lines)}
        assert len(maps) == 1
        # It outlives the process that wrote it, for those that come later.
        first = running.pop(lines.index("written"))
        first.kill()
        first.communicate()
        running.append(instance(name))
        assert {said(running[-1])} == maps
    finally:
        for process in running:
            process.communicate("")


def test_when_the_writer_is_killed_another_instance_writes(tmp_path: Path) -> None:
    name = f"lipsync-test-{tmp_path.name}-{os.getpid()}"
    writer = instance(name, "hang")
    assert said(writer) == "writing"
    waiting = instance(name)
    try:
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        assert said(waiting) == "written"
        assert said(waiting).endswith(str(64 << 20))
    finally:
        waiting.communicate("")
