"""The training of a generator: steps on crops about the mouth, then on whole faces.

The running mean of the weights is what is kept. Before the last steps the batch norms are counted anew for
it, and fixed, as in use. Every batch follows from its step's number alone, so a training that was interrupted
goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lipsync_preprocessing.networks.torch_networks import TorchGenerator
from lipsync_preprocessing.training.pairs import Batch, PairSource, infer
from lipsync_preprocessing.training.precision import Precision

_NORM_BATCHES = 60
_SMALLEST_RATE = 1e-4  # of the largest, at the end
_FIRST_RATE = 0.04  # of the largest, at the beginning


@dataclass(frozen=True)
class LoopSettings:
    """The course of a training.

    Attributes:
        crops, steps: numbers of steps on crops, and on whole faces.
        crop_batch, batch: pairs in a step of each.
        rate, audio_rate: largest learning rates of the audio branch's surroundings, and of itself.
        warm_up, decay: parts of all steps in which the rates rise, and fall.
        settle: part of the steps on whole faces that have fixed batch norms.
        average: decay of the running mean of the weights, a step.
        seed: of the pairs.
    """

    crops: int = 3500
    steps: int = 1300
    crop_batch: int = 8
    batch: int = 4
    rate: float = 3e-3
    audio_rate: float = 3e-4
    warm_up: float = 0.1
    decay: float = 0.9
    settle: float = 0.3
    average: float = 0.995
    seed: int = 3


Loss = Callable[[Tensor, Batch], dict[str, Tensor]]
"""Called with the output in float32 and the batch; returns the terms, whose sum is the loss."""


class GeneratorTraining:
    """A generator in training.

    Attributes:
        network: the network that is trained.
        average: the running mean of its weights.
        step: number of steps done.
        total: number of all steps; `end_early` lowers it.
    """

    def __init__(
        self,
        network: TorchGenerator,
        source: PairSource,
        settings: LoopSettings,
        loss: Loss,
        precision: Precision,
    ) -> None:
        self._source, self._settings, self._loss = source, settings, loss
        self._precision, self._device = precision, precision.device
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = network.to(self._device).train()
        self.average: Any = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=self._mean)
        branch = {id(p) for p in network.audio_model.parameters()}
        rest = [p for p in network.parameters() if id(p) not in branch]
        groups = [
            {"params": rest, "lr": settings.rate},
            {"params": list(network.audio_model.parameters()), "lr": settings.audio_rate},
        ]
        self._optimiser = torch.optim.AdamW(groups, weight_decay=1e-4)
        self._scaler = precision.scaler()
        self.step, self.total = 0, settings.crops + settings.steps
        self._decay_from = round(self.total * (1 - settings.decay))
        self._settle_at = settings.crops + round((1 - settings.settle) * settings.steps)
        self._settled = False

    def run(self) -> Iterator[dict[str, float]]:
        """Take all remaining steps; yield each one's losses, after which the caller may save the state."""
        with ThreadPoolExecutor(1) as loader:
            waiting = loader.submit(self._load, self.step)
            while self.step < self.total:
                batch = waiting.result()
                waiting = loader.submit(self._load, self.step + 1)
                if self.step >= self._settle_at and not self._settled:
                    self._settle()
                yield self._take(batch.to(self._device))

    def end_early(self, steps: int) -> None:
        """Let the rates fall now, and end after so many steps on whole faces, the last of them settled."""
        self.total = min(self.total, self.step + steps)
        self._decay_from = min(self._decay_from, self.step)
        self._settle_at = min(self._settle_at, self.step + round(0.5 * (self.total - self.step)))

    @property
    def on_crops(self) -> bool:
        """True while the next step is one on crops."""
        return self.step < self._settings.crops

    def result(self) -> TorchGenerator:
        """Return the network with the mean of the weights, as it would be used now."""
        network: TorchGenerator = self.average.module
        if not self._settled:
            # Its own norms were never fed; those of the trained network are near.
            norms = {k: v for k, v in self.network.state_dict().items() if "running" in k}
            network.load_state_dict({**network.state_dict(), **norms})
        return network.eval()

    def state(self) -> dict[str, Any]:
        """Return all that a training depends on, beside its settings and its pairs."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
            "place": [self.step, self.total, self._decay_from, self._settle_at, int(self._settled)],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._scaler.load_state_dict(state["scaler"])
        self.step, self.total, self._decay_from, self._settle_at, settled = state["place"]
        self._settled = bool(settled)
        self.network.train(not self._settled)

    def rates(self) -> tuple[float, ...]:
        """Return the learning rates of the next step: a half cosine up, a plateau, a half cosine down."""
        settings = self._settings
        rising = max(1, round(settings.warm_up * (settings.crops + settings.steps)))
        factor = 1.0
        if self.step < rising:
            factor = _FIRST_RATE + (1 - _FIRST_RATE) * _ease(self.step / rising)
        elif self.step >= self._decay_from:
            falling = (self.step - self._decay_from) / max(1, self.total - self._decay_from)
            factor = 1 - (1 - _SMALLEST_RATE) * _ease(falling)
        return settings.rate * factor, settings.audio_rate * factor

    def _load(self, step: int) -> Batch:
        settings = self._settings
        crop = step < settings.crops
        rng = np.random.default_rng((settings.seed, step))
        return self._source.batch(rng, settings.crop_batch if crop else settings.batch, crop)

    def _take(self, batch: Batch) -> dict[str, float]:
        for group, rate in zip(self._optimiser.param_groups, self.rates(), strict=True):
            group["lr"] = rate
        with self._precision.autocast():
            output = infer(self.network, batch)
        terms = self._loss(output.float(), batch)
        loss = torch.stack(list(terms.values())).sum()
        self._optimiser.zero_grad()
        self._scaler.scale(loss).backward()
        self._scaler.unscale_(self._optimiser)
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self.average.update_parameters(self.network)
        self.step += 1
        return {name: value.item() for name, value in terms.items()}

    def _settle(self) -> None:
        """Take the mean of the weights, count its batch norms anew, and fix them."""
        self.network.load_state_dict(self.average.module.state_dict())
        recount_norms(self.network, self._source, self._settings.batch, self._device)
        self.average.module.load_state_dict(self.network.state_dict())
        self.network.eval()
        self._settled = True

    def _mean(self, averaged: Any, trained: Any, count: Tensor | int) -> None:
        """Move the mean towards the weights; the first ones count less, as they are far off."""
        decay = min(self._settings.average, (1 + float(count)) / (10 + float(count)))
        torch._foreach_lerp_(averaged, trained, 1 - decay)


def _ease(part: float) -> float:
    return float(0.5 - 0.5 * np.cos(np.pi * part))


def recount_norms(
    network: TorchGenerator, source: PairSource, size: int, device: torch.device
) -> None:
    """Compute the batch norms' statistics again for the present weights."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a mean over all batches
    network.train()
    rng = np.random.default_rng(4)
    with torch.no_grad():
        for _ in range(_NORM_BATCHES):
            infer(network, source.batch(rng, size).to(device))
