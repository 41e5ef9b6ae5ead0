"""The wheel works alone: installed outside of the checkout, and called in an empty folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import soundfile

from lipsync_preprocessing.bundle import contents
from support.media_files import video_frames
from support.toy_avatars import ROOT
from support.triton_calls import speech

pytestmark = pytest.mark.slow

SOURCES = (
    "client",
    "preprocessing",
    "embedded",
    "web",
    "model_repository",
    "examples/demo/weights",
)
# A version manager's command may be there without its interpreter.
PYTHONS = [
    found
    for minor in (10, 11, 12)
    if (found := shutil.which(f"python3.{minor}"))
    and not subprocess.run([found, "--version"], capture_output=True).returncode
]
# The first block of the README: at most three lines to a first video.
INSTALL, RENDER = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[
    0
].splitlines()
VERSION = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)[0]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources that are packed, as a checkout has them when it has been used."""
    root = tmp_path_factory.mktemp("source")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in SOURCES:
        shutil.copytree(ROOT / name, root / name, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, root / name)
    (root / "model_repository/anna_compositor/1").mkdir(parents=True)
    (root / "model_repository/anna_compositor/1/model.py").touch()
    return root


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built with the packages of the tests' environment."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir"]
    pip(sys.executable, "wheel", *options, str(folder), str(source))
    (found,) = folder.iterdir()
    return found


def pip(python: str | Path, *arguments: str) -> None:
    subprocess.run([python, "-m", "pip", *arguments], check=True, timeout=900)


def run(
    python: Path, home: Path, command: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run an installed command in the folder `home`/work, with `home` as the user's."""
    work = home / "work"
    work.mkdir(exist_ok=True)
    left_out = ("LIPSYNC_", "XDG_", "PYTHON", "VIRTUAL_ENV", "CI", "ORT_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(left_out)}
    return subprocess.run(
        [python.with_name(command), *arguments],
        cwd=work,
        env=environment | {"HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=240,
    )


def works_alone(python: Path, home: Path) -> None:
    """Render a video in an empty folder, with the commands of an installation."""
    version = run(python, home, "lipsync-client", "--version").stdout
    assert version == f"lipsync-client, version {VERSION}\n"
    assert run(python, home, "lipsync-server", "--version").stdout.endswith(f" {VERSION}\n")
    soundfile.write(home / "work/speech.wav", speech(1.0), 16_000)
    command, *arguments = shlex.split(RENDER)
    done = run(python, home, command, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    repository = home / ".local/share/lipsync-triton/models"
    assert f"lipsync-client: making the model repository: {repository}\n" in done.stderr
    frames = video_frames(home / "work/talk.mp4")
    assert len(frames) == json.loads(done.stdout)["frames"] > 20
    assert {frame.shape for frame in frames} == {(720 * 3 // 2, 1280)}
    assert (frames[0] != frames[-1]).any()
    listed = run(python, home, "lipsync-avatar", "list")
    assert listed.stdout.startswith("demo  125 frames  1280x720")
    assert listed.stderr == f"lipsync-avatar: model repository: {repository}\n"
    assert {path.name for path in (home / "work").iterdir()} == {"speech.wav", "talk.mp4"}
    assert not list(home.glob(".cache/*/*/.onnxruntime"))  # its telemetry


def test_the_wheel_holds_what_the_package_brings_and_no_other_avatar(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    models = {str(file) for model in contents.MODEL_NAMES for file in contents.model_files(model)}
    inside = "lipsync_preprocessing/bundle/models/"
    assert {name.removeprefix(inside) for name in names if name.startswith(inside)} == models
    for path in (contents.DEMO_PACK, contents.DEMO_GENERATOR, contents.DEMO_ENCODER):
        assert f"lipsync_preprocessing/bundle/demo/{path.name}" in names


@pytest.mark.server
def test_the_wheel_works_alone(wheel: Path, tmp_path: Path) -> None:
    """With the packages of the tests' environment, but for our own, which comes from the wheel."""
    environment = tmp_path / "venv"
    venv.create(environment, symlinks=True)
    python = environment / "bin/python"
    options = ["--quiet", "--no-deps", "--no-index"]
    pip(sys.executable, "--python", str(python), "install", *options, str(wheel))
    (packages,) = environment.glob("lib/python*/site-packages")
    # Only the folder: the links to this checkout in it are not followed from here.
    (packages / "tests.pth").write_text("\n".join(site.getsitepackages()))
    works_alone(python, tmp_path)


@pytest.mark.soak
@pytest.mark.server
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("interpreter", PYTHONS or [sys.executable])
def test_a_fresh_environment(source: Path, tmp_path: Path, interpreter: str) -> None:
    """A wheel that is built from the source distribution, with all that pip installs for it."""
    building = [sys.executable, "-m", "build", "--outdir", str(tmp_path / "dist"), str(source)]
    subprocess.run(building, check=True, timeout=300, stdout=subprocess.DEVNULL)
    (built,) = tmp_path.glob("dist/*.whl")
    subprocess.run([interpreter, "-m", "venv", tmp_path / "venv"], check=True, timeout=120)
    python = tmp_path / "venv/bin/python"
    command, *arguments = shlex.split(INSTALL.replace("lipsync-triton", str(built)))
    assert command == "pip"
    pip(python, *arguments, "--quiet")
    works_alone(python, tmp_path)
