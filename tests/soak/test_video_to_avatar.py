"""The drawn avatar, filmed while it speaks, becomes an avatar again, without what the drawing knows.

It took 43 minutes on two free cores with bf16 (docs/create.md).
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import draw
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from corpus import spoken
from motion import face_rect
from mouth import Mouth
from numpy.typing import NDArray

from lipsync_client import LipSyncClient, RenderOptions
from lipsync_embedded import Server
from lipsync_preprocessing.avatar.pack import read_pack
from lipsync_preprocessing.bundle import make_repository
from lipsync_preprocessing.cli import main
from support.demo_motion import pose_of
from support.mouth_opening import matches, opening
from support.recordings import AUDIO_RATE, write_recording
from support.toy_avatars import ROOT

FRAMES = 3000  # two minutes
SAMPLES = 640  # of a frame, at 16 kHz
FIRST_SEED = 50_000  # clips that the demo's own training did not use
HELD_OUT = ROOT / "tests/demo/held_out"
ENCODER = ROOT / "examples/demo/weights/audio_encoder.onnx"


def speech(frames: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return two seconds of silence and then sentences, 16 kHz, and the mouth of every frame."""
    clips = [(np.zeros(50 * SAMPLES, np.float32), np.zeros((50, 5), np.float32))]
    seed = FIRST_SEED
    while sum(len(mouth) for _, mouth in clips) < frames:
        clip = spoken(seed)
        count = min(len(clip.samples) // SAMPLES, len(clip.mouth))  # a clip's end has no mouth
        clips.append((clip.samples[: count * SAMPLES], clip.mouth[:count]))
        seed += 1
    samples, mouths = (np.concatenate(part) for part in zip(*clips, strict=True))
    return samples[: frames * SAMPLES], mouths[:frames]


def _draw(job: tuple[int, list[float]]) -> NDArray[Any]:
    k, mouth = job
    return draw.draw_face(pose_of(k), Mouth(*mouth))


def film(path: Path, frames: int) -> Path:
    """Write the video: committed frames, with the face square drawn anew for each mouth."""
    samples, mouths = speech(frames)
    base = [frame.image for frame in read_pack(ROOT / "examples/demo/weights/frames.npz")]
    images = []
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        jobs = [(k, [float(v) for v in mouth]) for k, mouth in enumerate(mouths)]
        for k, face in enumerate(pool.map(_draw, jobs, chunksize=16)):
            x1, y1, x2, y2 = face_rect(pose_of(k))
            image = base[pose_of(k)].copy()
            image[y1:y2, x1:x2] = face
            images.append(image)
    return write_recording(path, images, audio=np.repeat(samples, AUDIO_RATE // 16_000))


def openings(
    client: LipSyncClient, audio: Path, avatar: str, first: int, count: int
) -> list[float]:
    """Return the mouth's opening in each rendered frame; the avatar's loop is the video's from `first` on."""
    chunks = list(client.render(audio, avatar, RenderOptions(output="FRAMES")))
    came = []
    for i, frame in enumerate(np.concatenate([chunk.frames for chunk in chunks])):
        place = (i + 1) % (2 * count - 2)
        place = place if place < count else 2 * count - 2 - place
        x1, y1, x2, y2 = face_rect(pose_of(first + place))
        came.append(opening(frame[y1:y2, x1:x2]))
    return came


def judge(client: LipSyncClient, avatar: str, first: int, count: int, folder: Path) -> None:
    """Hold an avatar to the drawing's truth, on speech and on silence that its training never met."""
    for clip in ("woman", "man"):
        truth = np.array(json.loads((HELD_OUT / f"{clip}.json").read_text())["opening"])
        came = np.array(openings(client, HELD_OUT / f"{clip}.flac", avatar, first, count))
        match = matches(came, truth)
        print(f"{clip}: correlation {match[4]:.3f}, by shift {np.round(match, 3)}")
        assert match[4] >= 0.85
        assert int(np.argmax(match)) == 4
    soundfile.write(folder / "silence.wav", np.zeros(3 * 16_000), 16_000)
    closed = np.array(openings(client, folder / "silence.wav", avatar, first, count)) < 2.0
    print(f"silence: closed in {closed.mean():.1%} of the frames")
    assert closed.mean() >= 0.98


@pytest.mark.soak
@pytest.mark.server
@pytest.mark.timeout(6 * 3600)
def test_a_filmed_drawing_speaks_again(face_models: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    video = film(tmp_path / "drawn.mp4", FRAMES)
    repository, work = tmp_path / "models", tmp_path / "work"
    make_repository(repository, print)
    arguments = ["create", "drawn", str(video), "--audio-encoder", str(ENCODER), "--no-tune"]
    arguments += ["--work", str(work), "--repository", str(repository), "--width", "mobile"]
    made = CliRunner().invoke(main, [*arguments, "--models", str(face_models)])
    print(made.output)
    assert made.exit_code == 0
    first, last = json.loads((work / "dataset/measurements.json").read_text())["rest"]
    with (
        Server(repository, models=["drawn"]) as server,
        LipSyncClient(server.grpc_url) as client,
    ):
        judge(client, "drawn", first, last - first + 1, tmp_path)
