"""The examples of the library and the programs of docs/library.md, run unchanged."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import av
import pytest

import lipsync_client
from lipsync_client import LipSyncClient, RenderOptions
from lipsync_embedded import Server
from support.audio_files import write_wav
from support.toy_avatars import ROOT

EXAMPLES = ROOT / "examples/library"
FRAMES = 74  # of three seconds


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "clip.wav", 16000, 1, seconds=3)


def run(name: str, here: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an example in a folder of its own, with warnings as errors."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    return subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=120)


def output(name: str, here: Path, *arguments: str) -> str:
    done = run(name, here, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_render_to_file(server: Server, clip: Path, tmp_path: Path) -> None:
    printed = output("render_to_file.py", tmp_path, server.grpc_url, str(clip), "toy")
    assert printed.startswith("talk.mp4: ")
    with av.open(str(tmp_path / "talk.mp4")) as video:
        assert f": {sum(1 for _ in video.decode(video=0))} frames in" in printed


def test_render(server: Server, clip: Path, tmp_path: Path) -> None:
    printed = output("render.py", tmp_path, server.http_url, str(clip), "toy")
    assert printed.splitlines()[0] == "frames 0 to 7"
    with LipSyncClient(server.grpc_url) as client:
        units = [unit for chunk in client.render(clip, "toy") for unit in chunk.frames]
    assert (tmp_path / "talk.h264").read_bytes() == b"".join(units)


def test_stream(server: Server, clip: Path, tmp_path: Path) -> None:
    printed = output("stream.py", tmp_path, server.grpc_url, str(clip), "toy")
    files = sorted((tmp_path / "frames").iterdir())
    assert printed == f"{len(files)} frames in frames\n"
    assert 50 <= len(files) < FRAMES
    with LipSyncClient(server.grpc_url) as client:
        chunks = client.render(clip, "toy", RenderOptions("JPEG"))
        frames = [frame for chunk in chunks for frame in chunk.frames]
    assert [path.read_bytes() for path in files] == frames[: len(files)]


def test_avatars(server: Server, tmp_path: Path) -> None:
    printed = output("avatars.py", tmp_path, server.grpc_url)
    assert printed == "toy: 320x240, a loop of 10 frames\nwide: 1280x720, a loop of 4 frames\n"


def test_health(server: Server, tmp_path: Path) -> None:
    assert "toy: works\n" in output("health.py", tmp_path, server.grpc_url)
    done = run("health.py", tmp_path, f"{server.grpc_url},grpc://127.0.0.1:9")
    assert done.returncode == 1
    assert "grpc://127.0.0.1:9 server: does not work\n" in done.stdout
    done = run("health.py", tmp_path, "grpc://127.0.0.1:9")
    assert done.returncode == 1
    assert "no server answers at grpc://127.0.0.1:9" in done.stderr


def test_each_example_is_run_here() -> None:
    tests = Path(__file__).read_text()
    for example in EXAMPLES.glob("*.py"):
        assert f'"{example.name}"' in tests, example.name


def test_live(server: Server, clip: Path, tmp_path: Path) -> None:
    printed = output("live.py", tmp_path, server.grpc_url, str(clip), "toy").split()
    assert int(printed[0]) >= FRAMES
    assert int(printed[2]) > 0


BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/library.md").read_text(), re.S)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_programs_of_the_docs(server: Server, clip: Path, tmp_path: Path, number: int) -> None:
    clip.rename(tmp_path / "speech.mp3")  # the suffix does not count
    text = BLOCKS[number].replace("grpc://127.0.0.1:8001", server.grpc_url)
    (tmp_path / "program.py").write_text(text.replace('"demo"', '"toy"'))
    done = subprocess.run(
        [sys.executable, "-W", "error", "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_docs_have_the_tree_of_errors() -> None:
    tree = (lipsync_client._errors.__doc__ or "").split("\n\n")[1].strip()
    assert tree in (ROOT / "docs/library.md").read_text()
