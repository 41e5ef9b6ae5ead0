"""Students in a repository: no usual config serves them, and their profiles name a version that exists."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http

from lipsync_embedded import Server
from lipsync_preprocessing.avatar import (
    add_avatar,
    add_student,
    prune_versions,
    remove_students,
    roll_back,
    update_generator,
)
from lipsync_preprocessing.errors import RepositoryError
from lipsync_preprocessing.profiles.files import stale_profiles, write_profile
from lipsync_preprocessing.profiles.settings import ProfileSettings
from lipsync_preprocessing.repository import Repository
from support.profile_commands import config, done, encoder_of, profile_files, run
from support.students import compile_student, with_card

HALF, QUARTER = Fraction(1, 2), Fraction(1, 4)


@pytest.fixture(scope="module")
def compiled(
    with_anna: Path, other_generator_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("student") / "student"
    return compile_student(with_anna, "anna", other_generator_file, folder)


@pytest.fixture
def add_one(anna: Path, compiled: Path, tmp_path: Path) -> Any:
    """A function that adds a student to `anna`."""

    def add(width: str = "1/2", teacher: int = 1) -> int:
        folder = with_card(compiled, tmp_path / "taught", width, teacher)
        try:
            return add_student(anna, "anna", folder)
        finally:
            shutil.rmtree(folder)

    return add


def served(path: Path) -> list[int]:
    """Return the versions that a config names; none if it leaves them to Triton."""
    return list(config(path).version_policy.specific.versions)


def profile(repository: Path, name: str, student: bool) -> Path:
    students = Repository(repository).avatar("anna").students
    settings = ProfileSettings(compositors=2, live_sessions=3)
    chosen = students[-1] if student else None
    write_profile(repository, "anna", name, settings, student=chosen)
    return repository / f"anna_generator/configs/{name}{'-half' if student else ''}.pbtxt"


def test_the_usual_config_and_profiles_keep_serving_the_avatars_own(
    anna: Path, add_one: Any
) -> None:
    usual, before = anna / "anna_generator/config.pbtxt", profile(anna, "onnxruntime", False)
    text = usual.read_text()
    assert served(usual) == served(before) == []
    assert add_one() == 2
    assert served(usual) == served(before) == [1]
    assert usual.read_text().startswith(text)  # comments and all
    assert stale_profiles(Repository(anna), "anna") == []
    after, student = profile(anna, "openvino-f32", False), profile(anna, "onnxruntime", True)
    assert (served(after), served(student)) == ([1], [2])
    head = [line for line in student.read_text().splitlines() if line.startswith("#")]
    assert "tune anna --profile onnxruntime --width 1/2" in head[0]
    assert head[1].endswith("--model-config-name=onnxruntime-half")
    assert "#   version_policy: the student of width 1/2" in head
    assert (anna / encoder_of(anna) / "configs/onnxruntime-half.pbtxt").exists()
    assert (anna / "anna_compositor/configs/onnxruntime-half.pbtxt").exists()
    assert (anna / "anna/configs/onnxruntime-half.pbtxt").exists()
    avatar = Repository(anna).avatar("anna")
    assert avatar.versions == (1,)
    assert [(s.version, s.width, s.teacher) for s in avatar.students] == [(2, "1/2", 1)]
    assert "generator versions 1, 2 (student 1/2)" in done(anna, "list")
    listed = json.loads(run(anna, "list", "--json").stdout)["avatars"][0]
    assert (listed["versions"], listed["students"][0]["version"]) == ([1], 2)


def test_an_update_is_served_and_prune_takes_what_the_old_generator_taught(
    anna: Path, add_one: Any, other_generator_file: Path, tmp_path: Path
) -> None:
    usual = anna / "anna_generator/config.pbtxt"
    text = usual.read_text()
    plain = profile(anna, "onnxruntime", False)
    plain_text = plain.read_text()
    add_one()
    student = profile(anna, "onnxruntime", True)
    updated = done(anna, "update", "anna", "--generator", other_generator_file)
    assert "anna: generator version 3\n" in updated
    assert "the student of width 1/2 was taught by version 1" in updated
    assert (served(usual), served(plain), served(student)) == ([3], [3], [2])
    sheet = tmp_path / "sheet.png"
    inspected = done(anna, "inspect", "anna", "-o", sheet)
    assert (
        "version 2: student of width 1/2, taught by version 1, which is not served any" in inspected
    )
    assert "tune again" not in inspected
    assert sorted(prune_versions(anna, "anna")) == [1, 2]
    assert usual.read_text() == text
    assert plain.read_text() == plain_text
    models = ["anna", "anna_compositor", "anna_generator", encoder_of(anna)]
    assert {path.name for path in anna.glob("*/configs/*")} == {"onnxruntime.pbtxt"}
    assert list(profile_files(anna)) == models
    assert Repository(anna).avatar("anna").profiles == ("onnxruntime",)
    assert [p.name for p in (anna / "anna_generator").iterdir() if p.name.isdecimal()] == ["3"]


def test_a_roll_back_takes_what_the_dropped_version_taught(
    anna: Path, add_one: Any, other_generator_file: Path
) -> None:
    add_one()
    update_generator(anna, "anna", other_generator_file)
    assert add_one("1/4", teacher=3) == 4
    student, usual = profile(anna, "cuda", True), anna / "anna_generator/config.pbtxt"
    del student
    assert served(anna / "anna_generator/configs/cuda-quarter.pbtxt") == [4]
    assert "version 3 deleted, and its students, 4" in done(anna, "update", "anna", "--rollback")
    assert served(usual) == [1]
    assert not (anna / "anna_generator/configs").exists()
    assert [s.version for s in Repository(anna).avatar("anna").students] == [2]
    with pytest.raises(
        RepositoryError, match="expected an older version to go back to, got only 1"
    ):
        roll_back(anna, "anna")


def test_a_profile_moves_to_the_newest_student_of_its_width(anna: Path, add_one: Any) -> None:
    add_one()
    half = profile(anna, "onnxruntime", True)
    assert add_one("1/4") == 3
    assert served(half) == [2]
    assert add_one() == 4
    assert served(half) == [4]
    assert prune_versions(anna, "anna") == [2]
    assert served(half) == [4]
    assert "deleted versions 4" in done(anna, "distil", "anna", "--width", "1/2", "--remove")
    assert profile_files(anna) == {}
    assert served(anna / "anna_generator/config.pbtxt") == [1]
    remove_students(anna, "anna", QUARTER)
    assert served(anna / "anna_generator/config.pbtxt") == []
    with pytest.raises(RepositoryError, match="no student of width 1/2; it has: none"):
        remove_students(anna, "anna", HALF)


def test_a_new_avatar_does_not_take_the_templates_versions(
    anna: Path, add_one: Any, raw_dataset: Path, generator_file: Path, encoder_file: Path
) -> None:
    for part in ("demo", "demo_generator", "demo_compositor"):
        shutil.rmtree(anna / part)
    add_one()
    add_avatar(anna, "berta", raw_dataset, generator_file, encoder_file, raw=True)
    assert served(anna / "berta_generator/config.pbtxt") == []
    assert served(anna / "berta_raw/config.pbtxt") == []


def test_refused_students_leave_the_repository_as_it_was(
    anna: Path, compiled: Path, tmp_path: Path
) -> None:
    def files() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in anna.rglob("*") if p.is_file()}

    before = files()
    for folder, message in (
        (with_card(compiled, tmp_path / "a", teacher=2), r"expected version 2 of .*, got 1; teach"),
        (compiled, "expected the card of a student"),
    ):
        with pytest.raises(RepositoryError, match=message):
            add_student(anna, "anna", folder)
    assert files() == before
    usual = anna / "anna_generator/config.pbtxt"
    usual.write_text(usual.read_text() + "version_policy { all {} }\n")
    before = files()
    with pytest.raises(RepositoryError, match=r"expected a config without a version_policy"):
        add_student(anna, "anna", with_card(compiled, tmp_path / "b"))
    assert files() == before


def test_tune_with_a_width(anna: Path, add_one: Any) -> None:
    missing = run(anna, "tune", "anna", "--profile", "cuda", "--width", "1/2")
    assert (
        "anna: no student of width 1/2; it has: none. lipsync-avatar distil anna" in missing.stderr
    )
    for wrong in ("1", "2/1", "half", "1/0", "0.3"):
        refused = run(anna, "tune", "anna", "--profile", "cuda", "--width", wrong)
        assert refused.exit_code == 2, wrong
        assert "expected a part of the true size" in refused.stderr
    add_one()
    written = done(anna, "tune", "anna", "--profile", "cuda", "--width", "0.5")
    assert written.endswith("lipsync-server --profile cuda-half\n")
    assert Repository(anna).avatar("anna").profiles == ("cuda-half",)
    done(anna, "tune", "anna", "--profile", "cuda", "--width", "1/2", "--remove")
    assert profile_files(anna) == {}


@pytest.mark.server
def test_only_the_students_profile_serves_it(anna: Path, add_one: Any, run: Any) -> None:
    add_one()
    profile(anna, "onnxruntime", True)
    window = np.random.default_rng(3).normal(0, 1, (1, 32, 16, 16)).astype(np.float32)
    feeds: dict[str, Any] = {"loop_index": np.array([[2]], np.int64), "audio": window}
    for name, version in ((None, "1"), ("onnxruntime-half", "2")):
        expected = run(str(anna / f"anna_generator/{version}/model.onnx"), **feeds)
        with Server(anna, models=["anna"], profile=name) as server:
            client = tritonclient.http.InferenceServerClient(server.http_url.split("//")[1])
            assert client.get_model_metadata("anna_generator")["versions"] == [version]
            inputs = []
            for key, kind in (("loop_index", "INT64"), ("audio", "FP32")):
                tensor = tritonclient.http.InferInput(key, list(feeds[key].shape), kind)
                inputs.append(tensor.set_data_from_numpy(feeds[key]))
            came = client.infer("anna_generator", inputs).as_numpy("patch")
            client.close()
        np.testing.assert_array_equal(came, expected)


@pytest.mark.server
def test_tune_measures_a_student(anna: Path, add_one: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lipsync_preprocessing.profiles.tune.cores", lambda: 1)
    add_one()
    output = done(
        anna, "tune", "anna", "--profile", "onnxruntime", "--width", "1/2", "--seconds", "0.5"
    )
    assert output.endswith("lipsync-server --profile onnxruntime-half\n")
    text = (anna / "anna_generator/configs/onnxruntime-half.pbtxt").read_text()
    assert "# Measured on 1 cores" in text
    assert served(anna / "anna_generator/configs/onnxruntime-half.pbtxt") == [2]
