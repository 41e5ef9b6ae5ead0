"""The silence gate: the avatar's own frame where nobody speaks, the patch untouched where somebody does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lipsync_frames import AvatarFrames, Paste
from numpy.typing import NDArray

from lipsync_embedded import Server
from support.servers import ServerPool
from support.triton_calls import Triton, slice_request, speech

GATE_DB = -45.0
PARAMETER = 'parameters {{ key: "paste_silence_db" value: {{ string_value: "{}" }} }}\n'


@pytest.fixture(scope="module")
def gated_repository(toy_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("gated") / "models"
    shutil.copytree(toy_repository, repository, symlinks=True)
    config = repository / "toy_compositor/config.pbtxt"
    config.write_text(config.read_text() + PARAMETER.format(GATE_DB))
    return repository


@pytest.fixture
def gated(servers: ServerPool, gated_repository: Path) -> Server:
    """A server whose compositor shows the avatar's own frame in silence."""
    return servers.get(gated_repository, models=["toy"])


def pause() -> NDArray[Any]:
    """Speech until 1 s, faint noise until 3 s, speech until 4 s."""
    wave = speech(4.0)
    noise = np.random.default_rng(3).standard_normal(32_000).astype(np.float32)
    wave[16_000:48_000] = 10 ** (-60 / 20) * noise
    return wave


def frames_of(server: Server, wave: NDArray[Any], size: int) -> NDArray[Any]:
    triton = Triton(server, "grpc")
    total = int((1 + len(wave) // 200 - 16) / 80 * 25) + 4
    parts = [
        triton.frames("toy", **slice_request(wave, at, min(size, total - at)))
        for at in range(0, total, size)
    ]
    return np.concatenate(parts)


def test_the_pause_shows_the_avatars_own_frames(
    server: Server, gated: Server, toy_repository: Path
) -> None:
    wave = pause()
    open_, closed = frames_of(server, wave, 32), frames_of(gated, wave, 32)
    avatar = AvatarFrames(toy_repository / "toy_compositor/1/frames.npz", 0)
    own = np.stack([avatar.bgr(avatar.at(i)) for i in range(len(closed))])
    # 0.2 s after the speech the mouth begins to close, 0.12 s later it is closed.
    quiet = slice(int(1.33 * 25), int(2.66 * 25))
    assert np.array_equal(closed[quiet], own[quiet])
    assert not np.array_equal(open_[quiet], own[quiet])
    for loud in (slice(0, int(1.18 * 25)), slice(int(2.82 * 25) + 1, None)):
        assert np.array_equal(closed[loud], open_[loud])
    # In between it moves from one to the other, never back.
    way = np.abs(closed.astype(int) - own).mean((1, 2, 3)) / np.abs(open_.astype(int) - own).mean(
        (1, 2, 3)
    )
    assert (np.diff(way[25:50]) <= 0.02).all()
    assert ((way > 0.05) & (way < 0.95)).sum() >= 2


@pytest.mark.parametrize("size", [1, 7])
def test_slices_agree(gated: Server, size: int) -> None:
    wave = pause()[: 16_000 * 2]
    assert np.array_equal(frames_of(gated, wave, size), frames_of(gated, wave, 32))


def test_levels_are_those_of_the_sound(server: Server) -> None:
    wave = np.full(32_000, 0.1, np.float32)
    wave[16_000:] = 0.0
    answer = Triton(server, "http").infer("mel", Triton.tensors(wave, count=30), ["LEVEL"])["LEVEL"]
    assert answer.shape == (30, 57)
    assert np.allclose(answer[12], -20.0, atol=1e-3)  # 0.5 s: as loud all about
    assert answer[0, 0] == -100.0  # before the clip
    edge = answer[24]  # 0.98 s: the sound ends 0.02 s later
    assert (edge[:29] > -21).all()
    assert (edge[31:] == -100.0).all()


def test_the_share_of_the_own_frame() -> None:
    gate = Paste(silence_db=-40.0, silence_after_s=0.1)
    levels = np.full((4, 57), -60.0, np.float32)
    levels[1, 28] = -30.0  # at the frame
    levels[2, 28 + 8] = -30.0  # 0.1 s after it
    levels[3, 28 - 13] = -30.0  # 0.1625 s before it
    share = gate.own_share(levels)
    assert share[0] == 1.0
    assert share[1] == share[2] == 0.0
    assert share[3] == pytest.approx(0.5312, abs=1e-3)
    assert (Paste().own_share(levels) == 0.0).all()
