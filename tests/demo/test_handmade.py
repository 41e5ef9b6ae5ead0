"""The demo's hand-made networks keep the contract and do what they are for."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import onnxruntime
import oracle
import pytest
from toy_avatars import ROOT

sys.path.append(str(ROOT / "examples/demo"))
import draw
import handmade
from motion import FRAMES, face_rect

MOUTH = np.s_[170:260, 90:230]  # rows and columns of the 320x320 face


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """A drawn face, float32 [3, 320, 320]."""
    square = cv2.resize(draw.draw_face(30), (328, 328), interpolation=cv2.INTER_CUBIC)
    return square[4:324, 4:324].transpose(2, 0, 1).astype(np.float32) / 255


def session(model: object) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model.SerializeToString())  # type: ignore[attr-defined]


def mouths(wave: np.ndarray, face: np.ndarray) -> np.ndarray:
    """What the generator adds to the face in each frame of a clip, grey levels, [N, 320, 320]."""
    features = oracle.embeddings(
        oracle.mel_windows(oracle.mel(wave)), session(handmade.audio_encoder())
    )
    generator = session(handmade.generator())
    visual = np.concatenate([face, face])[None]
    out = [
        generator.run(None, {"input": visual, "audio": audio[None]})[0][0]
        for audio in oracle.audio_inputs(features)
    ]
    return np.abs(np.stack(out) * 255 - face * 255).max(axis=1)


def test_silence_leaves_the_face_alone(face: np.ndarray) -> None:
    assert mouths(np.zeros(16000, np.float32), face).max() < 1


def test_speech_opens_the_mouth_and_nothing_else(face: np.ndarray) -> None:
    t = np.arange(24000) / 16000
    voice = 0.3 * np.sign(np.sin(2 * np.pi * 150 * t)) * ((t > 0.5) & (t < 1.0))
    changed = mouths(voice, face)
    opened = (changed[(slice(None), *MOUTH)] > 40).sum(axis=(1, 2))
    loud = np.flatnonzero(opened > 300)
    # The voice lasts from frame 12.5 to 25; a window is 0.2 s wide, so the edges are a little soft.
    assert 10 <= loud.min() <= 14
    assert 23 <= loud.max() <= 27
    changed[(slice(None), *MOUTH)] = 0
    assert changed.max() < 8


def test_the_face_moves_and_stays_in_the_frame() -> None:
    rects = [face_rect(k) for k in range(FRAMES)]
    assert len(set(rects)) > FRAMES // 2
    assert FRAMES >= 100
    for x1, y1, x2, y2 in rects:
        assert 0 <= x1 < x2 <= 1280
        assert 0 <= y1 < y2 <= 720
        assert x2 - x1 == y2 - y1


def test_the_drawing_is_deterministic() -> None:
    assert np.array_equal(draw.draw_face(7), draw.draw_face(7))
