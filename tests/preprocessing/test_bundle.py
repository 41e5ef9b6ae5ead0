"""The model repository that the package brings: made on first use, and brought up to date."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from draw import draw_frame
from motion import FRAMES, face_rect

from lipsync_preprocessing import networks
from lipsync_preprocessing.avatar import add_avatar, add_student, remove_avatar
from lipsync_preprocessing.avatar.pack import read_pack
from lipsync_preprocessing.bundle import contents, default_repository, locating, make_repository
from lipsync_preprocessing.errors import RepositoryError
from lipsync_preprocessing.repository import Repository
from support.toy_datasets import make_raw

pytestmark = pytest.mark.slow

STAMP = ".lipsync-triton"


def nothing(_line: str) -> None:
    """Take a line of `make_repository`."""


def tree(root: Path, *names: str) -> dict[str, bytes]:
    """Return the files below the folders of a repository whose names begin so."""
    found = (path for name in names for path in root.glob(f"{name}*/**/*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


@pytest.fixture
def made(demo_repository: Path, tmp_path: Path) -> Path:
    """A model repository of the test's own, as `make_repository` leaves it."""
    return shutil.copytree(demo_repository, tmp_path / "models")


def outdate(repository: Path) -> None:
    """Leave a repository as an earlier version of the package would."""
    (repository / STAMP).write_text("0.0.9 earlier\n")
    (repository / "mel/config.pbtxt").write_text("# earlier\n")
    (repository / "mel/1/lipsync_earlier.py").write_text("earlier = True\n")
    (repository / "demo_compositor/1/frames.npz").write_bytes(b"earlier")


def test_it_holds_the_shared_models_and_the_demo_avatar(demo_repository: Path) -> None:
    (avatar,) = Repository(demo_repository).avatars()
    assert (avatar.name, avatar.frames, avatar.width, avatar.height) == ("demo", FRAMES, 1280, 720)
    assert avatar.missing == ()
    for model in contents.MODEL_NAMES:
        for file in contents.model_files(model):
            assert (demo_repository / file).read_bytes() == (contents.MODELS / file).read_bytes()
    said: list[str] = []
    assert not make_repository(demo_repository, said.append)
    assert said == []


@pytest.mark.slow
def test_the_demo_avatars_pack_is_its_drawing() -> None:
    """Of the pack that is committed; the encoding as JPEG costs less than a grey level."""
    frames = list(read_pack(contents.DEMO_PACK))
    assert [frame.rect for frame in frames] == [face_rect(k) for k in range(FRAMES)]
    for k in (0, FRAMES // 2, FRAMES - 1):
        assert np.abs(frames[k].image.astype(int) - draw_frame(k)).mean() < 1.0


def test_an_upgrade_leaves_other_avatars_alone(
    made: Path, tmp_path: Path, generator_file: Path, encoder_file: Path
) -> None:
    before = tree(made, *contents.MODEL_NAMES)
    add_avatar(made, "anna", make_raw(tmp_path / "dataset"), generator_file, encoder_file)
    own = tree(made, "anna", "audio_encoder_")
    profile = made / "mel/configs/own.pbtxt"
    profile.parent.mkdir()
    profile.touch()
    outdate(made)
    said: list[str] = []
    assert make_repository(made, said.append)
    assert said == [f"updating the model repository: {made}"]
    assert tree(made, "anna", "audio_encoder_") == own
    profile.unlink()
    after = tree(made, *contents.MODEL_NAMES)
    assert after == before | {k: v for k, v in own.items() if k.startswith("audio_encoder_")}
    assert [path.name for path in made.parent.glob(".lipsync*")] == []


def test_an_upgrade_with_another_audio_encoder(
    made: Path, tmp_path: Path, generator_file: Path, encoder_state: Any
) -> None:
    """An avatar that shares the demo's encoder keeps the one it was made for."""
    earlier = tmp_path / "earlier.onnx"
    onnx.save(networks.build_audio_encoder(encoder_state), str(earlier))
    served = made / "audio_encoder/1/model.onnx"
    add_avatar(made, "bert", make_raw(tmp_path / "dataset"), generator_file, earlier)
    config = made / "bert/config.pbtxt"
    name = Repository(made).avatar("bert").encoder
    shutil.copyfile(made / name / "1/model.onnx", served)
    config.write_text(config.read_text().replace(name, "audio_encoder"))
    shutil.rmtree(made / name)
    before = tree(made, "bert"), served.read_bytes()
    outdate(made)
    make_repository(made, nothing)
    assert (tree(made, "bert"), served.read_bytes()) == before
    demo = Repository(made).avatar("demo")
    assert demo.missing == ()
    assert demo.encoder != "audio_encoder"


def test_a_demo_avatar_that_was_removed_stays_away(
    made: Path, tmp_path: Path, generator_file: Path, encoder_file: Path
) -> None:
    add_avatar(made, "anna", make_raw(tmp_path / "dataset"), generator_file, encoder_file)
    remove_avatar(made, "demo")
    (made / STAMP).write_text("0.0.9 earlier\n")
    (made / "mel/config.pbtxt").write_text("# earlier\n")
    make_repository(made, nothing)
    assert [avatar.name for avatar in Repository(made).avatars()] == ["anna"]
    assert "earlier" not in (made / "mel/config.pbtxt").read_text()


def test_an_interrupted_first_use_is_made_up_for(tmp_path: Path) -> None:
    (tmp_path / "models/mel/1").mkdir(parents=True)
    (tmp_path / "models" / STAMP).touch()
    said: list[str] = []
    make_repository(tmp_path / "models", said.append)
    assert said == [f"making the model repository: {tmp_path / 'models'}"]
    assert Repository(tmp_path / "models").avatar("demo").missing == ()


def test_two_processes_at_once(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("lipsync-avatar")), "list"]
    environment = os.environ | {"LIPSYNC_REPOSITORY": str(tmp_path / "models")}
    processes = [
        subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    for stdout, stderr in outputs:
        assert stdout.startswith("demo  125 frames")
        assert "MISSING" not in stdout
        assert f"the model repository: {tmp_path / 'models'}\n" in stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "models"]


def test_a_folder_of_somebody_else_stays_as_it_is(repository: Path) -> None:
    before = tree(repository, "")
    assert not make_repository(repository, pytest.fail)
    assert tree(repository, "") == before


def test_a_place_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RepositoryError, match=r"file/models: Not a directory; name a place"):
        make_repository(tmp_path / "file/models", nothing)


def test_the_default_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a checkout its own folder; installed, the data folder of the user, or one of temporary files."""
    assert default_repository() == contents.MODELS
    monkeypatch.setattr(locating, "IN_CHECKOUT", False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert default_repository() == tmp_path / "data/lipsync-triton/models"
    monkeypatch.setenv("XDG_DATA_HOME", "/dev/null/data")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    folder = tmp_path / f"lipsync-triton-{os.geteuid()}"
    assert default_repository() == folder / "models"
    folder.chmod(0o777)
    with pytest.raises(RepositoryError, match="expected a folder that only this user can write"):
        default_repository()


def test_an_installation_without_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lipsync_preprocessing.bundle.making.DEMO_PACK", tmp_path / "none")
    with pytest.raises(RepositoryError, match="this installation brings no models"):
        make_repository(tmp_path / "models", nothing)
    assert not (tmp_path / "models").exists()


def test_an_upgrade_keeps_the_demos_students_if_it_keeps_their_teacher(
    made: Path, tmp_path: Path
) -> None:
    taught = tmp_path / "taught"
    taught.mkdir()
    shutil.copyfile(made / "demo_generator/1/model.onnx", taught / "model.onnx")
    (taught / "student.json").write_text('{"width": "1/4", "teacher_version": 1}')
    assert add_student(made, "demo", taught) == 2
    config = made / "demo_generator/config.pbtxt"
    pinned = config.read_text()
    assert "versions: [ 1 ]" in pinned
    outdate(made)
    make_repository(made, nothing)
    assert [s.version for s in Repository(made).avatar("demo").students] == [2]
    assert config.read_text() == pinned
    outdate(made)
    (made / "demo_generator/1/model.onnx").write_bytes(b"earlier")
    make_repository(made, nothing)
    assert Repository(made).avatar("demo").students == ()
    assert "version_policy" not in config.read_text()
