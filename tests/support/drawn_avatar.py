"""The demo avatar in a small video: trained networks, ten frames of 320x240."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
from draw import draw, landmarks
from motion import face_rect
from mouth import CLOSED

from lipsync_preprocessing.avatar import add_avatar
from lipsync_preprocessing.graphs.networks import prepare_audio_encoder

from .toy_avatars import ROOT

NAME = "drawn"
SIZE, FRAMES = (320, 240), 10
_WEIGHTS = ROOT / "examples/demo/weights"


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
    add_avatar(repository, NAME, dataset, _WEIGHTS / "generator.onnx", encoder)
    for part in ("demo", "demo_generator", "demo_compositor"):
        shutil.rmtree(repository / part)
