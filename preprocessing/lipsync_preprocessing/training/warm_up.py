"""The audio branch's first training: alone, it learns to tell the mouth from the audio, which is fast.

Without it, a generator needs most of its steps until the mouth moves with the audio at all.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from lipsync_preprocessing.networks.torch_networks import TorchGenerator
from lipsync_preprocessing.training.precision import Precision

Sample = Callable[[np.random.Generator, int], tuple[Tensor, Tensor]]
"""Called with a size; returns audio windows [B,32,16,16] and the mouth at these moments, [B,n]."""


def train_audio_branch(
    network: TorchGenerator,
    sample: Sample,
    outputs: int,
    steps: int,
    precision: Precision,
    report: Callable[[int, int, float], None],
    batch: int = 64,
) -> None:
    """Teach each of the 10x10 places of the branch's output to predict the mouth.

    Args:
        network: the generator.
        sample: the source of training pairs.
        outputs: numbers that describe a mouth.
        steps: number of steps.
        precision: device and format.
        report: called with the steps done, all steps and the loss.
        batch: pairs in a step.
    """
    device = precision.device
    branch = network.audio_model.to(device)
    channels = branch.bn5.num_features
    head = nn.Conv2d(channels, outputs, 1).to(device)
    parameters = [*branch.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, 2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, steps)
    for step in range(steps):
        blocks, truth = sample(np.random.default_rng((2, step)), batch)
        with precision.autocast():
            predicted = head(branch(blocks.to(device))).float()
        wanted = truth.to(device)[:, :, None, None].expand_as(predicted)
        loss = nn.functional.smooth_l1_loss(predicted, wanted, beta=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        report(step + 1, steps, loss.item())
