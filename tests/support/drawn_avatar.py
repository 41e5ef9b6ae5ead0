"""The demo avatar in a small video, with a generator so small that a busy machine keeps up with speech.

The generator darkens the mouth by the loudness, which it reads from the demo avatar's audio features.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import soundfile
import soxr
from draw import draw, landmarks
from motion import face_rect
from mouth import CLOSED

from lipsync_preprocessing.avatar import add_avatar
from lipsync_preprocessing.graphs.networks import prepare_audio_encoder

from .oracle import embeddings, mel, mel_windows
from .toy_avatars import ROOT
from .toy_network import build_mouth_generator

NAME = "drawn"
SIZE, FRAMES = (320, 240), 10
_WEIGHTS = ROOT / "examples/demo/weights"


def _fitted() -> onnx.ModelProto:
    """Return a generator whose mouth is dark where the example speech is loud."""
    samples, rate = soundfile.read(ROOT / "examples/speech.wav", dtype="float32")
    wave = soxr.resample(samples, rate, 16_000)
    session = onnxruntime.InferenceSession(str(_WEIGHTS / "audio_encoder.onnx"))
    features = embeddings(mel_windows(mel(wave)), session)
    blocks = wave[: len(features) * 640].reshape(-1, 640)
    loud = np.sqrt((blocks.astype(np.float64) ** 2).mean(axis=1))
    loud = np.convolve(loud, np.ones(3) / 3, "same") / loud.max()
    inputs = np.hstack([features[: len(loud)], np.ones((len(loud), 1))]).astype(np.float64)
    ridge = 1e-2 * np.trace(inputs.T @ inputs) / inputs.shape[1] * np.eye(inputs.shape[1])
    weights = np.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ loud)
    return build_mouth_generator(weights[:-1], float(weights[-1]))


def drawn_repository(repository: Path, dataset: Path) -> None:
    """Make a model repository with the avatar alone, whose mouth follows the audio.

    Args:
        repository: a copy of the project's, without what is built in it.
        dataset: folder for the avatar's frames.
    """
    (dataset / "full_body_img").mkdir(parents=True)
    (dataset / "landmarks").mkdir()
    x1, y1, x2, y2 = face_rect(0)
    left, top = (x1 + x2 - SIZE[0]) // 2, (y1 + y2 - SIZE[1]) // 2
    for frame in range(FRAMES):
        image = draw(frame, CLOSED, (left, top, left + SIZE[0], top + SIZE[1]))
        cv2.imwrite(str(dataset / f"full_body_img/{frame}.jpg"), image)
        points = landmarks(frame) - [left, top]
        np.savetxt(dataset / f"landmarks/{frame}.lms", points, fmt="%d")
    encoder = _WEIGHTS / "audio_encoder.onnx"
    shared = prepare_audio_encoder(onnx.load(str(encoder)))
    onnx.save(shared, str(repository / "audio_encoder/1/model.onnx"))
    onnx.save(_fitted(), str(dataset / "generator.onnx"))
    add_avatar(repository, NAME, dataset, dataset / "generator.onnx", encoder)
    for part in ("demo", "demo_generator", "demo_compositor"):
        shutil.rmtree(repository / part)
