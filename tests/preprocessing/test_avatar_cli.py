from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import pytest
from click.testing import CliRunner, Result

from lipsync_preprocessing.cli import main
from support.toy_datasets import COUNT, make_packaged, write_landmarks


@pytest.fixture
def cli(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("LIPSYNC_URL", "LIPSYNC_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LIPSYNC_REPOSITORY", str(repository))
    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def add_arguments(raw_dataset: Path, generator_file: Path, encoder_file: Path) -> list[Any]:
    files = ["--dataset", raw_dataset, "--generator", generator_file]
    return ["add", "anna", *files, "--audio-encoder", encoder_file]


def fails(result: Result, message: str) -> None:
    """Exit code 1, and one line on standard error after that which says where the repository is."""
    assert result.exit_code == 1, result.output
    where, error = result.stderr.splitlines()
    assert where.startswith("lipsync-avatar: model repository: /")
    assert error.startswith("lipsync-avatar: ")
    assert message in error


def test_add_list_inspect_update_remove(
    cli: Any, add_arguments: Any, tmp_path: Path, other_generator_file: Path
) -> None:
    made = cli(*add_arguments, "--raw")
    assert made.exit_code == 0, made.output
    assert made.stdout.startswith(f"anna: {COUNT} frames of 160x120, audio encoder audio_encoder_")
    assert made.stdout.endswith("raw network anna_raw\n")
    listed = json.loads(cli("list", "--json").stdout)
    anna = next(a for a in listed["avatars"] if a["name"] == "anna")
    assert (anna["frames"], anna["versions"], anna["raw"]) == (COUNT, [1], True)
    assert listed["leftovers"] == []
    assert "anna  5 frames  160x120" in cli("list").stdout
    sheet = tmp_path / "sheet.png"
    assert cli("inspect", "anna", "-o", sheet, "--rows", 3).exit_code == 0
    image = cv2.imread(str(sheet))
    assert image.shape[0] == 3 * 240 + 2 * 8
    x1, y1 = 40 * 2, 20 * 2  # the rectangle of frame 0, drawn at twice its size
    assert image[y1 + 30, x1].tolist() == [0, 255, 0]
    fails(cli("inspect", "anna", "-o", sheet), "--force overwrites")
    fails(cli("inspect", "anna", "-o", tmp_path / "no" / "sheet.png"), "No such file")
    updated = cli("update", "anna", "--generator", other_generator_file)
    assert updated.stdout == "anna: generator version 2\n"
    assert cli("update", "anna", "--prune").stdout == "anna: deleted versions 1\n"
    fails(cli("update", "anna", "--rollback"), "got only 2")
    removed = cli("remove", "anna")
    assert removed.stdout.startswith(
        "anna: removed anna, anna_compositor, anna_generator, anna_raw"
    )
    assert "anna" not in cli("list").stdout
    fails(cli("remove", "anna"), "no avatar 'anna'; it has: demo")


def test_add_with_the_options_of_a_dataset(
    cli: Any, tmp_path: Path, generator_file: Path, encoder_file: Path
) -> None:
    """A video of 30 frames per second, and rectangles from landmarks that differ from the file's."""
    dataset = make_packaged(tmp_path / "packaged", videos=True, fps=30, count=12, cache=True)
    (dataset / "landmarks").mkdir()
    for k in range(12):
        write_landmarks(dataset / f"landmarks/{k}.lms", (30, 20, 90, 80), points=98)
    files = ["--dataset", dataset, "--generator", generator_file, "--audio-encoder", encoder_file]
    fails(cli("add", "anna", *files), "expected 110 landmarks")
    options = ["--rectangles", "landmarks", "--landmark-points", "98"]
    fails(cli("add", "anna", *files, *options), "--frame-rate 30 to resample it")
    assert cli("add", "anna", *files, *options, "--frame-rate", "fast").exit_code == 2
    added = cli("add", "anna", *files, *options, "--frame-rate", "30/1")
    assert added.stdout.startswith("anna: 10 frames of 160x120"), added.output


def test_repository_may_be_named_after_the_command(
    cli: Any, repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").touch()
    monkeypatch.setenv("LIPSYNC_REPOSITORY", str(tmp_path / "other"))
    assert cli("list").stdout == ""
    assert cli("list", "--repository", repository).stdout.startswith("demo ")


def test_bad_input_is_one_line_and_exit_code_1(
    cli: Any, add_arguments: Any, tmp_path: Path
) -> None:
    fails(cli("add", "a b", *add_arguments[2:]), "avatar name 'a b'")
    text = tmp_path / "x.onnx"
    text.write_text("text")
    fails(cli(*add_arguments, "--generator", text), "expected an ONNX model")
    fails(cli(*add_arguments, "--feather", -3), "0 to 160 pixels")
    fails(cli("check", "nobody"), "no avatar 'nobody'")
    fails(cli("check", "demo"), "nothing to load in demo_generator")
    fails(cli("inspect", "demo", "-o", tmp_path / "s.png"), "frames.npz: expected a frame pack")


def test_a_checkpoint_without_torch(
    cli: Any, add_arguments: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "99.pth").touch()
    result = cli(*add_arguments, "--generator", tmp_path / "99.pth")
    fails(result, "pip install 'lipsync-triton[export]'")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["add", "anna"],
        ["update", "anna"],
        ["update", "anna", "--rollback", "--prune"],
        ["remove", "anna", "--unload"],
        ["inspect", "anna"],
        ["frobnicate"],
    ],
)
def test_wrong_usage_is_exit_code_2(cli: Any, arguments: list[str]) -> None:
    assert cli(*arguments).exit_code == 2


@pytest.mark.parametrize("url", ["grpc://127.0.0.1:9", "http://127.0.0.1:9"])
def test_no_server_is_noticed_before_anything_changes(
    cli: Any, add_arguments: Any, url: str, repository: Path
) -> None:
    fails(cli(*add_arguments, "--load", "--url", url), f"{url}: no server answers")
    assert not (repository / "anna").exists()
    fails(cli(*add_arguments, "--load", "--url", "localhost:8001"), "expected grpc://HOST:PORT")


def test_help_of_every_command(cli: Any) -> None:
    for command in main.commands:
        assert cli(command, "--help").exit_code == 0


def test_interrupted_it_leaves_nothing(
    add_arguments: Any, repository: Path, raw_dataset: Path
) -> None:
    """The real command, killed by Ctrl-C at the moment its scratch folder appears."""
    before = sorted(repository.iterdir())
    for k in range(COUNT, 400):  # long enough to be met at work
        for folder, suffix in (("full_body_img", "jpg"), ("landmarks", "lms")):
            os.link(raw_dataset / folder / f"0.{suffix}", raw_dataset / folder / f"{k}.{suffix}")
    code = "from lipsync_preprocessing.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, add_arguments)]
    process = subprocess.Popen([*command, "--repository", str(repository)])
    try:
        while process.poll() is None and not list(repository.parent.glob(".lipsync-avatar-*")):
            time.sleep(0.001)
        process.send_signal(2)
        assert process.wait(60) == 1
    finally:
        process.kill()
        process.wait()
    assert sorted(repository.iterdir()) == before
    assert not list(repository.parent.glob(".lipsync-avatar-*"))
