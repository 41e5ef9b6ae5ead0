"""Imports that fail: wrong networks, bad frames, full disks; the repository stays as it was."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest

from lipsync_benchmarks import random_weights
from lipsync_preprocessing import networks
from lipsync_preprocessing.avatar import (
    materials,
    remove_avatar,
    update_generator,
)
from lipsync_preprocessing.errors import AvatarError, DatasetError, ModelError, RepositoryError
from lipsync_preprocessing.repository import Repository
from lipsync_preprocessing.repository.configs import PasteOptions
from support.toy_datasets import COUNT, tree


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"paste_feather_px": -1}, "0 to 160 pixels, got -1"),
        ({"paste_feather_px": float("nan")}, "got nan"),
    ],
)
def test_bad_paste_options(options: Any, message: str) -> None:
    with pytest.raises(AvatarError, match=message):
        PasteOptions(**options)


@pytest.mark.parametrize(
    "name",
    ["", "a b", "../a", "a/b", ".a", "1a", "ä", "a" * 65, "mel", "stream", "audio_encoder_2",
     "a_generator", "a_raw", "a_compositor", "a.b", "-a"],
)  # fmt: skip
def test_names_triton_would_choke_on(name: str, add: Any, repository: Path) -> None:
    before = tree(repository)
    with pytest.raises(RepositoryError, match="avatar name"):
        add(name)
    assert tree(repository) == before


def test_a_name_is_given_once(add: Any, repository: Path) -> None:
    add()
    before = tree(repository)
    with pytest.raises(RepositoryError, match="anna exists already"):
        add()
    assert tree(repository) == before


def wrong_models(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    """Return files that are no generator, and the messages that they must give."""
    text = tmp_path / "text.onnx"
    text.write_text("not a model")
    empty = tmp_path / "empty.onnx"
    empty.touch()
    small = tmp_path / "small.onnx"
    model = networks.build_generator(random_weights.generator_state(1 / 16, 0))
    for port in (model.graph.input[0], model.graph.output[0]):
        for axis in (2, 3):
            port.type.tensor_type.shape.dim[axis].dim_value = 160
    onnx.save(model, str(small))
    loud = tmp_path / "loud.onnx"
    model = networks.build_generator(random_weights.generator_state(1 / 16, 0))
    model.graph.node[-1].op_type = "Relu"
    onnx.save(model, str(loud))
    return {
        "text": (text, "text.onnx: expected an ONNX model"),
        "empty": (empty, "empty.onnx: expected an ONNX model, but it holds no graph"),
        "missing": (tmp_path / "none.onnx", "none.onnx: cannot be read: No such file"),
        "small": (small, r"small.onnx: generator: expected one input of float \[batch,6,320,320\]"),
        "loud": (loud, "loud.onnx: expected an output in 0…1, got 0"),
    }


@pytest.mark.parametrize("which", ["text", "empty", "missing", "small", "loud"])
def test_wrong_generators(which: str, add: Any, repository: Path, tmp_path: Path) -> None:
    path, message = wrong_models(tmp_path)[which]
    before = tree(repository)
    with pytest.raises(ModelError, match=message) as raised:
        add(generator_path=path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)
    assert tree(repository) == before


def test_encoder_and_generator_mixed_up(add: Any, generator_file: Path, encoder_file: Path) -> None:
    with pytest.raises(ModelError, match=r"99\.onnx: audio encoder: expected one input.*1,80,16"):
        add(encoder_path=generator_file)
    with pytest.raises(ModelError, match=r"audio_encoder\.onnx: generator: expected one input"):
        add(generator_path=encoder_file)


def test_a_bad_last_frame_changes_nothing(add: Any, repository: Path, raw_dataset: Path) -> None:
    path = raw_dataset / "full_body_img" / f"{COUNT - 1}.jpg"
    path.write_bytes(path.read_bytes()[:-100])
    before = tree(repository)
    with pytest.raises(DatasetError, match="expected a whole JPEG"):
        add()
    assert tree(repository) == before


def test_a_disk_too_small_is_noticed_before(
    add: Any, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    before = tree(repository)
    with pytest.raises(RepositoryError, match="of free disk for the import, got 0"):
        add()
    assert tree(repository) == before


@pytest.mark.parametrize("step", ["write_pack", "write_compiled_generator"])
def test_a_disk_that_fills_on_the_way(
    step: str, add: Any, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(materials, step, fail)
    before = tree(repository)
    with pytest.raises(RepositoryError, match=r"the disk is full.*nothing was changed"):
        add()
    assert tree(repository) == before


@pytest.mark.parametrize("survivors", [0, 1, 2])
def test_cut_off_between_renames_there_is_no_avatar(
    survivors: int, add: Any, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after so many renames: no ensemble yet, and remove clears the rest."""
    rename = Path.rename
    done: list[Path] = []

    def rename_some(self: Path, target: Path) -> Path:
        if target.parent == repository:
            if len(done) == survivors + 1:  # the audio encoder goes first
                raise KeyboardInterrupt
            done.append(target)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", rename_some)
    with pytest.raises(KeyboardInterrupt):
        add()
    monkeypatch.undo()
    store = Repository(repository)
    assert not (repository / "anna").exists()
    left = ["anna_generator", "anna_compositor"][:survivors]
    assert store.leftovers() == sorted(left)
    if left:
        with pytest.raises(RepositoryError, match="interrupted import; lipsync-avatar remove anna"):
            add()
        assert sorted(remove_avatar(repository, "anna")) == sorted(left)
    assert add().missing == ()


def test_scratch_of_a_killed_run_goes(add: Any, repository: Path) -> None:
    stale = repository.parent / f".lipsync-avatar-{repository.name}-dead"
    (stale / "x").mkdir(parents=True)
    foreign = repository.parent / ".lipsync-avatar-others-live"
    foreign.mkdir()
    add()
    assert not stale.exists()
    assert foreign.exists()


def test_one_change_at_a_time(add: Any, repository: Path) -> None:
    handle = os.open(repository, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(RepositoryError, match="another lipsync-avatar"):
            add()
    finally:
        os.close(handle)
    assert add().name == "anna"


def test_update_of_a_bad_generator_changes_nothing(
    add: Any, repository: Path, encoder_file: Path
) -> None:
    add()
    before = tree(repository)
    with pytest.raises(ModelError, match="expected one input"):
        update_generator(repository, "anna", encoder_file)
    assert tree(repository) == before
