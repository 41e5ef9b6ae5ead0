"""A video becomes an avatar in one command, which goes on where it was interrupted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from lipsync_preprocessing import creation
from lipsync_preprocessing.bundle import make_repository
from lipsync_preprocessing.cli import main
from lipsync_preprocessing.dataset import read_dataset
from lipsync_preprocessing.repository import Repository
from support import talking
from support.recordings import AUDIO_RATE, write_recording
from support.toy_avatars import ROOT

ENCODER = ROOT / "examples/demo/weights/audio_encoder.onnx"
FRAMES = 130
SHORT = ["--width", "0.0625", "--crops", "6", "--steps", "2", "--crop-batch", "2", "--batch", "1"]
SHORT += ["--audio-steps", "20", "--sync-steps", "4", "--every", "4", "--threads", "1", "--no-tune"]


@pytest.fixture(autouse=True)
def own_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn avatar speaks: a plain video, without what the drawing knows."""
    samples = talking.audio(FRAMES)
    wide = np.repeat(samples, AUDIO_RATE // 16_000)
    frames = talking.demo_frames(FRAMES, 360)
    return write_recording(tmp_path_factory.mktemp("video") / "anna.mp4", frames, audio=wide)


@pytest.mark.server
@pytest.mark.usefixtures("short_training")
@pytest.mark.timeout(900)
def test_a_video_becomes_an_avatar(
    video: Path, face_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, work = tmp_path / "models", tmp_path / "work"
    make_repository(repository, print)

    def create(*more: str) -> Result:
        fixed = ["create", "anna", str(video), "--audio-encoder", str(ENCODER), "--work", str(work)]
        places = ["--repository", str(repository), "--models", str(face_models)]
        return CliRunner().invoke(main, [*fixed, *places, *SHORT, *more])

    # Interrupted while it adds the avatar: what was made before stays, and no more.
    def interrupted(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(creation, "add_avatar", interrupted)
        stopped = create()
    assert stopped.exit_code == 1
    assert "Aborted!" in stopped.stderr
    assert (work / "generator.pth").is_file()
    assert "anna" not in [avatar.name for avatar in Repository(repository).avatars()]
    card = json.loads((work / "generator.card.json").read_text())
    assert card["steps"] == 8
    other = create("--height", "240")
    assert "was begun with another recording" in other.stderr

    begun = (work / "dataset/audio.wav").stat().st_mtime_ns
    made = create()
    assert made.exit_code == 0, made.output
    assert (work / "dataset/audio.wav").stat().st_mtime_ns == begun
    assert "training" not in made.stderr
    assert re.search(r"anna: ok, \d+ frames for 1 s of audio", made.stdout)
    avatar = Repository(repository).avatar("anna")
    rest = work / "dataset/rest"
    shown = read_dataset(rest if rest.is_dir() else work / "dataset")
    assert (avatar.frames, avatar.width, avatar.height) == (len(shown), 640, 360)
    again = create()
    assert again.exit_code == 0, again.output  # nothing is left to do but the check


def test_the_drawn_face_is_found_where_it_is_drawn(
    video: Path, face_models: Path, tmp_path: Path
) -> None:
    made = CliRunner().invoke(
        main, ["dataset", str(video), "-o", str(tmp_path / "d"), "--models", str(face_models)]
    )
    assert made.exit_code == 0, made.output
    assert "the face in 100.0%" in made.stdout
    measured = json.loads((tmp_path / "d/measurements.json").read_text())
    true = talking.opening(FRAMES)
    match = np.corrcoef(measured["opening"], true)[0, 1]
    print(f"correlation of the measured opening with the painted one: {match:.3f}")
    assert match > 0.8
    assert cv2.imread(str(tmp_path / "d/full_body_img/0.jpg")).shape == (360, 640, 3)
