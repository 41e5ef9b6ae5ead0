"""Training pairs: what the generator gets, and what it should return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lipsync_preprocessing.contract import FACE, MASK_COLUMNS, MASK_ROWS
from lipsync_preprocessing.dataset.types import Image
from lipsync_preprocessing.networks.layers import STRIDE, WHOLE, Place
from lipsync_preprocessing.networks.torch_networks import TorchGenerator

# The first and larger part of the steps uses only the surroundings of the mouth: a third of the computation.
CROP = 192  # pixels, a multiple of the network's 32

CropPlaces = tuple[list[int], list[int]]
"""Rows and columns at which a crop may begin, pixels."""


@dataclass(frozen=True)
class Batch:
    """A batch of training pairs.

    Attributes:
        inputs: float32 [B,6,h,w], 0…1: another face, and the masked face.
        audio: float32 [B,32,16,16].
        targets: float32 [B,3,h,w], 0…1.
        weights: float32 [B,1,h,w] or [1,1,h,w], of the pixels in the loss.
        at: rows and columns of the crop in the face.
    """

    inputs: Tensor
    audio: Tensor
    targets: Tensor
    weights: Tensor
    at: Place

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(
            self.inputs.to(device),
            self.audio.to(device),
            self.targets.to(device),
            self.weights.to(device),
            self.at,
        )


class PairSource(Protocol):
    """An endless source of training pairs."""

    def batch(self, rng: np.random.Generator, size: int, crop: bool = False) -> Batch:
        """Return `size` pairs: whole faces, or the same random crop of each."""


def crop_places(mouth: tuple[float, float]) -> CropPlaces:
    """Return the places of crops that lie about a mouth, given as x and y in parts of the face's side.

    They are multiples of the network's stride, so that the audio branch's output can be cropped alike.
    """
    possible = range(0, FACE - CROP + 1, STRIDE)

    def nearest(middle: float, count: int) -> list[int]:
        first = middle * FACE - CROP / 2
        return sorted(sorted(possible, key=lambda place: abs(place - first))[:count])

    return nearest(mouth[1], 2), nearest(mouth[0], 3)


def random_place(rng: np.random.Generator, places: CropPlaces) -> Place:
    """Return one of the crops."""
    top, left = int(rng.choice(places[0])), int(rng.choice(places[1]))
    return slice(top, top + CROP), slice(left, left + CROP)


def to_pixels(face: Image, at: Place = WHOLE) -> Tensor:
    """Return a crop of a face, uint8 (320, 320, 3), as float32 [3,h,w] in grey levels."""
    return torch.from_numpy(face[at].astype(np.float32)).permute(2, 0, 1)


def mask(at: Place = WHOLE) -> Tensor:
    """Return 1 where the generator sees the masked face and 0 where it is black, float32 [h,w]."""
    whole = torch.ones(FACE, FACE)
    whole[MASK_ROWS, MASK_COLUMNS] = 0.0
    return whole[at]


def network_input(sources: Tensor, faces: Tensor, at: Place = WHOLE) -> Tensor:
    """Return the input [B,6,h,w] of other faces and the faces to be masked, both [B,3,h,w] in grey levels."""
    return torch.cat([sources, faces * mask(at)], dim=1) / 255.0


def to_target(faces: Tensor) -> Tensor:
    """Return the output that is wanted for faces in grey levels.

    The service truncates to grey levels; half a level more turns that into rounding.
    """
    return (faces + 0.5) / 255.0


def infer(network: TorchGenerator, batch: Batch) -> Tensor:
    """Return the network's output [B,3,h,w] for a batch of whole faces or crops."""
    rows, columns = (slice(x.start // STRIDE, x.stop // STRIDE) for x in batch.at)
    features = network.audio_model(batch.audio)[:, :, rows, columns]
    inputs = batch.inputs.contiguous(memory_format=torch.channels_last)
    return network.from_audio_features(inputs, features)
