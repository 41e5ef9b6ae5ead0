"""The README's commands and its Python, run as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest

from lipsync_embedded import Server
from support.toy_avatars import ROOT, ToyAvatar
from support.triton_calls import speech

README = (ROOT / "README.md").read_text()


def block(language: str, containing: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.S)
    return str(next(b for b in blocks if containing in b))


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory with the files the README speaks of."""
    with av.open(str(tmp_path / "speech.mp3"), "w") as out:
        stream = out.add_stream("mp3", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(speech(1.0)[None], format="fltp", layout="mono")
        frame.sample_rate = 16000
        out.mux([*stream.encode(frame), *stream.encode(None)])
    return tmp_path


def run(
    line: str, here: Path, repository: Path, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    arguments = shlex.split(line, comments=True)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "LIPSYNC_REPOSITORY": str(repository),
    }
    return subprocess.run(
        arguments,
        cwd=here,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        encoding="latin-1",  # raw samples go in
        timeout=120,
    )


def pointed_at(text: str, server: Server) -> str:
    """The README's addresses and avatar in the tests' terms."""
    text = text.replace("grpc://127.0.0.1:8001", server.grpc_url)
    text = text.replace("http://127.0.0.1:8000", server.http_url)
    return re.sub(r"(--avatar |\")demo\b", r"\1toy", text)


def test_rendering(server: Server, toy_repository: Path, here: Path) -> None:
    lines = block("sh", "speech.mp3 -o talk.mp4 --avatar demo\n").splitlines()
    lines += [x for x in block("sh", "lipsync-server &").splitlines() if "--url" in x]
    assert len(lines) == 4
    for line in lines:
        done = run(pointed_at(line, server), here, toy_repository)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        (here / "talk.mp4").unlink(missing_ok=True)
    assert len(list((here / "frames").iterdir())) > 20


def test_live(server: Server, toy_repository: Path, here: Path) -> None:
    """The pipe's second command, to a file, with samples in place of those that ffmpeg decodes."""
    line = block("sh", "lipsync-client live").partition("| ")[2]
    line = line.replace("rtmp://example.org/live/key", f"out.ts --url {server.grpc_url}")
    samples = (speech(0.5) * 32767).astype("<i2").tobytes().decode("latin-1")
    done = run(pointed_at(line, server), here, toy_repository, samples)
    assert done.returncode == 0, done.stderr
    assert (here / "out.ts").stat().st_size > 1000


def test_the_library(server: Server, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    exec(pointed_at(block("python", "LipSyncClient"), server), {})
    assert (here / "talk.mp4").stat().st_size > 1000


@pytest.mark.server
def test_an_avatar_of_ones_own(
    toy_repository: Path, toy_avatars: dict[str, ToyAvatar], here: Path
) -> None:
    repository = here / "models"
    shutil.copytree(toy_repository, repository)
    toy = toy_avatars["toy"]
    shutil.copytree(toy.dataset, here / "DIR")
    shutil.copy(toy.generator, here / "99.onnx")
    shutil.copy(toy.encoder, here / "audio_encoder.onnx")
    for line in block("sh", "lipsync-avatar add").splitlines():
        done = run(line, here, repository)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        if "check" in line:  # a second of audio has 24 frames by the contract
            assert done.stdout.startswith("anna: ok, 24 frames for 1 s of ")
    assert (here / "anna.mp4").stat().st_size > 1000


def test_every_chore_the_readme_names_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for chore in set(re.findall(r"make (\w+)", README)):
        assert re.search(rf"^{chore}:", makefile, re.M), chore
