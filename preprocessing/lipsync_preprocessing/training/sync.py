"""A small network that tells whether a mouth and the audio belong together, trained on the same clip.

Two towers map the mouth's surroundings and the audio window to a vector of length one. Those of one
moment should be alike, those of different moments not (the loss of van den Oord et al., "Representation
learning with contrastive predictive coding", 2018, with the moments of a batch as each other's negatives).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from lipsync_preprocessing.contract import FACE

REGION = 160  # pixels about the mouth
_INPUT = 40  # pixels that it is scaled to
_VECTOR = 64
_SHIFT = 8  # pixels: training moves the region, so that its place tells nothing

Sample = Callable[[np.random.Generator, int], tuple[Tensor, Tensor]]
"""Called with a size; returns faces [B,3,320,320] in 0…1 and their audio windows [B,32,16,16]."""


class SyncNetwork(nn.Module):
    """Both towers; `centre` is the mouth's place in the face, x and y as parts of its side."""

    def __init__(self, centre: tuple[float, float]) -> None:
        super().__init__()
        self.left, self.top = (
            min(max(round(c * FACE) - REGION // 2, _SHIFT), FACE - REGION - _SHIFT) for c in centre
        )
        self.mouth = nn.Sequential(
            *_layer(3, 32),
            *_layer(32, 64),
            *_layer(64, 96),
            nn.Flatten(),
            nn.Linear(96 * 25, _VECTOR),
        )
        self.audio = nn.Sequential(
            *_layer(32, 64), *_layer(64, 96), nn.Flatten(), nn.Linear(96 * 16, _VECTOR)
        )
        self.scale = nn.Parameter(torch.tensor(2.5))

    def region(self, faces: Tensor, x: int = 0, y: int = 0) -> Tensor:
        """Return the mouth's surroundings, moved by x and y: [B,3,40,40]."""
        top, left = self.top + y, self.left + x
        part = faces[:, :, top : top + REGION, left : left + REGION]
        small: Tensor = nn.functional.interpolate(part, (_INPUT, _INPUT), mode="area")
        return small

    def forward(self, regions: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Return both vectors [B,64]."""
        seen, heard = self.mouth(regions - 0.5), self.audio(audio)
        return nn.functional.normalize(seen), nn.functional.normalize(heard)

    def agreement(self, faces: Tensor, audio: Tensor) -> Tensor:
        """Return how well each face fits its audio: [B], -1…1."""
        seen, heard = self(self.region(faces), audio)
        agreement: Tensor = (seen * heard).sum(1)
        return agreement


def _layer(cin: int, cout: int) -> list[nn.Module]:
    return [nn.Conv2d(cin, cout, 3, 2, 1), nn.BatchNorm2d(cout), nn.ReLU()]


def train_sync(
    network: SyncNetwork,
    sample: Sample,
    steps: int,
    device: torch.device,
    report: Callable[[int, int], None],
    batch: int = 64,
) -> None:
    """Train the network; it is in evaluation mode and takes no gradients afterwards."""
    network.to(device)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=1e-2)
    for step in range(steps):
        rng = np.random.default_rng((5, step))
        faces, audio = sample(rng, batch)
        x, y = (int(v) for v in rng.integers(-_SHIFT, _SHIFT + 1, 2))
        regions = network.region(faces.to(device), x, y)
        light = torch.from_numpy(rng.uniform(0.8, 1.2, (batch, 1, 1, 1)).astype(np.float32))
        seen, heard = network(regions * light.to(device), audio.to(device))
        match = seen @ heard.T * network.scale.exp().clamp(max=50)
        truth = torch.arange(batch, device=device)
        loss = nn.functional.cross_entropy(match, truth) + nn.functional.cross_entropy(
            match.T, truth
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        report(step + 1, steps)
    network.eval().requires_grad_(False)
