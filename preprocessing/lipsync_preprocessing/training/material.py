"""A dataset as training pairs: faces, audio windows, and which frames are held out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lipsync_preprocessing.avatar.faces import cut_face
from lipsync_preprocessing.contract import FACE, FRAME_RATE, WINDOW
from lipsync_preprocessing.dataset import Dataset
from lipsync_preprocessing.dataset.types import Image
from lipsync_preprocessing.errors import DatasetError, TrainingError
from lipsync_preprocessing.networks.layers import WHOLE, Place
from lipsync_preprocessing.training.pairs import (
    Batch,
    crop_places,
    network_input,
    random_place,
    to_pixels,
    to_target,
)
from lipsync_preprocessing.training.speech import Speech

MEASUREMENTS = "measurements.json"
_LEAST_S, _HELD_OUT, _LEAST_HELD_OUT_S, _MOST_HELD_OUT_S = 4.0, 0.1, 1.0, 20.0
_USUAL_MOUTH = 0.5, 0.4  # of the face's side, in the training code's square
_MOUTH_WEIGHT, _MOUTH_WIDTH, _MOUTH_HEIGHT = 4.0, 60.0, 50.0  # pixels, deviations

Frames = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Measured:
    """Measurements of `lipsync-avatar dataset`; other datasets lack them.

    Attributes:
        mouth: the mouth's place in the face, x and y as parts of its side.
        opening: of the mouth in every frame, or None.
        closed: whether it is closed, or None.
    """

    mouth: tuple[float, float]
    opening: npt.NDArray[np.float64] | None
    closed: npt.NDArray[np.bool_] | None


def read_measured(directory: Path, frames: int) -> Measured:
    """Return the measurements of a dataset folder, or the usual place of the mouth."""
    path = directory / MEASUREMENTS
    if not path.is_file():
        return Measured(_USUAL_MOUTH, None, None)
    try:
        content = json.loads(path.read_text())
        x, y = content["mouth_centre"]
        opening = np.array(content["opening"], np.float64)
        closed = np.array(content["closed"], bool)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise DatasetError(f"{path}: expected the measurements of this dataset: {error}") from error
    if len(opening) < frames or len(closed) < frames:
        raise DatasetError(f"{path}: expected {frames} frames, got {len(opening)}")
    return Measured((float(x), float(y)), opening[:frames], closed[:frames])


def write_faces(dataset: Dataset, path: Path, report: Callable[[int, int], None]) -> None:
    """Write the faces of a dataset as uint8 [N,320,320,3] BGR, an .npy file that is mapped."""
    scratch = path.with_suffix(".partial")
    faces = np.lib.format.open_memmap(scratch, "w+", np.uint8, (len(dataset), FACE, FACE, 3))
    for k, frame in enumerate(dataset.read()):
        faces[k] = cut_face(frame.image, frame.rect)
        report(k + 1, len(dataset))
    faces.flush()
    scratch.replace(path)


class Material:
    """The training pairs of a dataset; a PairSource.

    As in SyncTalk_2D, the generator gets another frame's face for its looks, the own face masked for its
    pose, and its audio; it should return the own face.

    Attributes:
        faces: uint8 [N,320,320,3] BGR.
        train, held_out: numbers of frames. The held-out ones are the last of the video, after a gap, so that
            no audio window reaches from one part to the other.
    """

    def __init__(self, faces: Path, speech: Speech, measured: Measured) -> None:
        self.faces: Image = np.load(faces, mmap_mode="r")
        self.speech, self.measured = speech, measured
        count = min(len(self.faces), len(speech))
        if count < _LEAST_S * FRAME_RATE:
            raise TrainingError(
                f"expected at least {_LEAST_S:g} s of frames with audio, got {count / FRAME_RATE:.1f} s:"
                f" {len(self.faces)} frames, audio for {len(speech)}"
            )
        held = round(
            min(
                max(_HELD_OUT * count, _LEAST_HELD_OUT_S * FRAME_RATE),
                _MOST_HELD_OUT_S * FRAME_RATE,
            )
        )
        self.held_out: Frames = np.arange(count - held, count)
        self.train: Frames = np.arange(0, count - held - WINDOW)
        self._weights = mouth_weights(measured.mouth)
        self._places = crop_places(measured.mouth)

    def batch(self, rng: np.random.Generator, size: int, crop: bool = False) -> Batch:
        """Return `size` pairs of the training part."""
        at = random_place(rng, self._places) if crop else WHOLE
        frames = rng.choice(self.train, size)
        return self.pairs(frames, rng.choice(self.train, size), at)

    def pairs(self, frames: Frames, others: Frames, at: Place = WHOLE) -> Batch:
        """Return the pairs of these frames with these other faces."""
        own = torch.stack([to_pixels(self.faces[k], at) for k in frames])
        other = torch.stack([to_pixels(self.faces[k], at) for k in others])
        inputs = network_input(other, own, at)
        weights = self._weights[at][None, None]
        return Batch(inputs, self.speech.windows(frames), to_target(own), weights, at)

    def matching(self, rng: np.random.Generator, size: int) -> tuple[Tensor, Tensor]:
        """Return faces [B,3,320,320] in 0…1 and their audio windows, of the training part."""
        frames = rng.choice(self.train, size)
        faces = torch.stack([to_pixels(self.faces[k]) for k in frames])
        return faces / 255.0, self.speech.windows(frames)

    def other_faces(self, frames: Frames) -> Frames:
        """Return for each frame a face of the training part with a closed mouth, as an avatar at rest has."""
        closed = self.measured.closed
        usable = self.train if closed is None else self.train[closed[self.train]]
        usable = usable if len(usable) else self.train
        return np.random.default_rng(6).choice(usable, len(frames))


def mouth_weights(mouth: tuple[float, float]) -> Tensor:
    """Return the weights of the pixels in the loss, float32 [320,320]: the mouth counts most."""
    x, y = (np.arange(FACE) - c * FACE for c in mouth)
    near = np.exp(-0.5 * ((x[None] / _MOUTH_WIDTH) ** 2 + (y[:, None] / _MOUTH_HEIGHT) ** 2))
    return torch.from_numpy((1 + _MOUTH_WEIGHT * near).astype(np.float32))
