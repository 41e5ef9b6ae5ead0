"""How the encoder's 512 numbers say a mouth: one block of the [2,16,16] picture for each parameter.

The generator sees sixteen embeddings as [32,16,16] and reads them with convolutions, which tell places apart
by neighbourhood; so each parameter fills a patch of its own. All are 0 or more, as the encoder ends in a ReLU.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Parameter (in the order of Mouth's fields) -> channel, rows, columns.
_PATCHES = (
    (0, slice(0, 16), slice(0, 8)),  # jaw
    (0, slice(0, 8), slice(8, 16)),  # width
    (0, slice(8, 16), slice(8, 16)),  # round
    (1, slice(0, 16), slice(0, 8)),  # teeth
    (1, slice(0, 16), slice(8, 16)),  # tongue
)


def embedding_of(mouth: Tensor) -> Tensor:
    """[B, 5] mouth parameters -> [B, 512]."""
    picture = torch.zeros(len(mouth), 2, 16, 16)
    for value, (channel, rows, columns) in zip(mouth.T, _PATCHES, strict=True):
        picture[:, channel, rows, columns] = value[:, None, None]
    picture[:, 0, 0:8, 8:16] = (picture[:, 0, 0:8, 8:16] + 1.0) / 2.0  # width is -1..1
    return picture.flatten(1)


def mouth_of(embedding: Tensor) -> Tensor:
    """[B, 512] -> [B, 5]: the mean of each patch."""
    picture = embedding.reshape(-1, 2, 16, 16)
    values = [picture[:, c, rows, columns].mean((1, 2)) for c, rows, columns in _PATCHES]
    values[1] = values[1] * 2.0 - 1.0
    return torch.stack(values, dim=1)
