"""The layout of a mouth in the encoder's 512 numbers: one block of a [2,16,16] map for each parameter.

The generator sees sixteen embeddings as [32,16,16] and reads them with convolutions, which tell places apart
by their neighbourhood; so each parameter fills a block of its own. All values are 0 or more, as the encoder
ends in a ReLU.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Parameter (in the order of Mouth's fields) -> channel, rows, columns.
_BLOCKS = (
    (0, slice(0, 16), slice(0, 8)),  # jaw
    (0, slice(0, 8), slice(8, 16)),  # width
    (0, slice(8, 16), slice(8, 16)),  # round
    (1, slice(0, 16), slice(0, 8)),  # teeth
    (1, slice(0, 16), slice(8, 16)),  # tongue
)


def embedding_of(mouth: Tensor) -> Tensor:
    """Return the embeddings [B, 512] of mouths [B, 5]."""
    blocks = torch.zeros(len(mouth), 2, 16, 16)
    for value, (channel, rows, columns) in zip(mouth.T, _BLOCKS, strict=True):
        blocks[:, channel, rows, columns] = value[:, None, None]
    blocks[:, 0, 0:8, 8:16] = (blocks[:, 0, 0:8, 8:16] + 1.0) / 2.0  # width is -1..1
    return blocks.flatten(1)


def mouth_of(embedding: Tensor) -> Tensor:
    """Return the mouths [B, 5] of embeddings [B, 512]: the mean of each block."""
    blocks = embedding.reshape(-1, 2, 16, 16)
    values = [blocks[:, c, rows, columns].mean((1, 2)) for c, rows, columns in _BLOCKS]
    values[1] = values[1] * 2.0 - 1.0
    return torch.stack(values, dim=1)
