"""A face of a few strokes that talks: a dataset for trainings. Its mouth is as open as its audio is loud."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from motion import pose
from mouth import MOUTH_Y

from lipsync_preprocessing.avatar.pack import read_pack
from support.demo_motion import pose_of
from support.toy_avatars import ROOT
from support.toy_datasets import write_jpegs, write_landmarks

Array = npt.NDArray[Any]

SIZE = 200, 160  # pixels
SIDE = 120  # of the face square
_RATE, _FPS = 16_000, 25


def opening(frames: int) -> Array:
    """Return the mouth's opening in every frame, 0…1: words and pauses."""
    t = np.arange(frames) / _FPS
    words = np.abs(np.sin(2 * np.pi * 1.7 * t)) * (0.6 + 0.4 * np.sin(2 * np.pi * 0.9 * t))
    return np.where(t % 2.0 > 1.4, 0.0, words)


def audio(frames: int) -> Array:
    """Return a voice as loud as the mouth is open, float32 [n] at 16 kHz."""
    samples = frames * _RATE // _FPS
    t = np.arange(samples) / _RATE
    at = (np.arange(frames) + 0.5) / _FPS
    loud = np.interp(t, at, opening(frames))
    voice = sum(np.sin(2 * np.pi * 140 * n * t) / n for n in range(1, 20))
    return np.asarray(0.2 * loud * voice, np.float32)


def draw(k: int, open_: float) -> tuple[Array, tuple[int, int, int, int]]:
    """Return a frame, uint8 (160, 200, 3), and its face square."""
    x = 100 + round(12 * np.sin(2 * np.pi * k / 60))
    image = np.full((SIZE[1], SIZE[0], 3), (150, 170, 120), np.uint8)
    cv2.circle(image, (x, 85), 62, (150, 190, 240), -1, cv2.LINE_AA)
    for side in (-1, 1):
        cv2.circle(image, (x + side * 24, 62), 7, (60, 40, 30), -1, cv2.LINE_AA)
    cv2.ellipse(
        image, (x, 108), (22, 3 + round(14 * open_)), 0, 0, 360, (50, 40, 150), -1, cv2.LINE_AA
    )
    if open_ > 0.15:
        cv2.ellipse(image, (x, 108), (16, round(11 * open_)), 0, 0, 360, (30, 10, 20), -1)
    return image, (x - SIDE // 2, 40, x + SIDE // 2, 40 + SIDE)


def write_dataset(directory: Path, frames: int) -> Path:
    """Write the raw dataset folder, with the audio and measurements of `lipsync-avatar dataset`."""
    values = opening(frames)
    drawn = [draw(k, float(v)) for k, v in enumerate(values)]
    (directory / "landmarks").mkdir(parents=True)
    write_jpegs(directory / "full_body_img", [image for image, _ in drawn])
    for k, (_, rect) in enumerate(drawn):
        write_landmarks(directory / "landmarks" / f"{k}.lms", rect)
    with wave.open(str(directory / "audio.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes((audio(frames) * 32767).astype("<i2").tobytes())
    measured = {
        "mouth_centre": [0.5, 68 / SIDE],
        "opening": values.tolist(),
        "closed": (values < 0.1).tolist(),
    }
    (directory / "measurements.json").write_text(json.dumps(measured))
    return directory


def demo_frames(frames: int, height: int) -> list[Array]:
    """Return the demo avatar's frames with a mouth that `audio` goes with: uint8 (height, W, 3) BGR.

    The mouth is painted into the committed frames: to draw them anew takes a third of a second each.
    """
    base = [frame.image for frame in read_pack(ROOT / "examples/demo/weights/frames.npz")]
    shown = []
    for k, open_ in enumerate(opening(frames)):
        place = pose_of(k)
        at = pose(place)
        roll = np.radians(at.roll_deg)
        x, y = at.x - at.scale * MOUTH_Y * np.sin(roll), at.y + at.scale * MOUTH_Y * np.cos(roll)
        image = base[place].copy()
        if open_ > 0.1:
            centre, size = (round(x), round(y + 10 * open_)), (30, round(22 * open_))
            cv2.ellipse(image, centre, size, at.roll_deg, 0, 360, (40, 20, 60), -1, cv2.LINE_AA)
        width = round(image.shape[1] * height / image.shape[0])
        shown.append(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
    return shown
