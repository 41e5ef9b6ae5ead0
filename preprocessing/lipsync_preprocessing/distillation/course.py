"""The course of a distillation: the first weights, the steps, and the looks at the held-out part."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from lipsync_preprocessing.distillation.inheritance import inherit
from lipsync_preprocessing.distillation.lessons import Lessons, rows
from lipsync_preprocessing.distillation.mouth import TaughtMouth
from lipsync_preprocessing.networks.layers import Place
from lipsync_preprocessing.networks.torch_networks import TorchGenerator
from lipsync_preprocessing.training.evaluation import psnr, to_images
from lipsync_preprocessing.training.folder import STATE, TrainingFolder
from lipsync_preprocessing.training.loop import GeneratorTraining, LoopSettings
from lipsync_preprocessing.training.losses import gradient_l1, weighted_l1
from lipsync_preprocessing.training.pairs import Batch, infer
from lipsync_preprocessing.training.precision import Precision
from lipsync_preprocessing.training.progress import Progress, Report
from lipsync_preprocessing.training.warm_up import train_audio_branch

Say = Callable[[str], object]

MOUTH = "mouth"  # the region of a student that is not the whole "face"
_GRADIENT = 0.5  # weight of this loss; that of the pixels is 1
_JUDGED, _SHOWN = 24, 6  # held-out rows that the training is watched on, and shown
_HEIRS_RATE = 0.3  # of the learning rates, for a network that begins with its teacher's weights
_COUNTED = 8  # pairs with which its batch norms are counted


@dataclass(frozen=True)
class DistilOptions:
    """Options of a distillation.

    Attributes:
        width: of the student, a part of the true size.
        region: "mouth": what the teacher moves, the frame's own pixels around it; or "face": all of the face.
        loop: steps and learning rates.
        audio_steps: steps of the audio branch alone, before.
        pairs: number of the teacher's patches to learn from.
        every: steps between two looks at the held-out part.
        device, precision: see `choose_precision`.
        threads: of the CPU; None leaves it to torch.
        resume: go on with an interrupted training.
    """

    width: Fraction
    region: str = MOUTH
    loop: LoopSettings = field(default_factory=lambda: LoopSettings(decay=0.5))
    audio_steps: int = 1000
    pairs: int = 3000
    every: int = 250
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    resume: bool = False


class Course:
    """The steps of a training, with its losses, its looks at the held-out part, and its states on disk."""

    def __init__(
        self,
        lessons: Lessons,
        mouth: TaughtMouth,
        teacher: onnx.ModelProto,
        folder: TrainingFolder,
        options: DistilOptions,
        precision: Precision,
        report: Report,
        say: Say,
    ) -> None:
        self._lessons, self._mouth, self._folder = lessons, mouth, folder
        self._teacher, self._options, self._precision = teacher, options, precision
        self._report, self._say = report, say
        held = rows(lessons.plan.held_out)
        self._judged = held[:: max(1, len(held) // _JUDGED)][:_JUDGED]
        self._spent, self._heir, self._begun = 0.0, False, time.monotonic()

    @property
    def seconds(self) -> float:
        """Return the time that all runs of this training took."""
        return self._spent + time.monotonic() - self._begun

    def begin(self) -> GeneratorTraining:
        """Return the training as it was left, or a new one after the audio branch's own."""
        torch.manual_seed(1)
        network = TorchGenerator(float(self._options.width))
        state = self._folder.load(STATE, self._precision.device)
        if state is None:
            counted = self._lessons.batch(np.random.default_rng(5), _COUNTED)
            self._heir = inherit(network, float(self._options.width), self._teacher, counted)
            if self._heir:
                self._say("beginning with the teacher's weights")
            else:
                self._warm_up(network)
        else:
            self._spent, self._heir = state["course"]
        loop = self._options.loop
        if self._heir:
            rate, audio_rate = _HEIRS_RATE * loop.rate, _HEIRS_RATE * loop.audio_rate
            loop = replace(loop, rate=rate, audio_rate=audio_rate)
        training = GeneratorTraining(network, self._lessons, loop, _loss, self._precision)
        if state is not None:
            training.load_state(state["training"])
            self._say(f"going on at step {training.step} of {training.total}")
        return training

    def go_on(self, training: GeneratorTraining) -> None:
        """Take the steps that remain."""
        progress = Progress(self._folder, training.step, self._say, "mouth_psnr")
        for terms in training.run():
            progress.add(terms)
            self._report("teaching", training.step, training.total)
            if training.step % self._options.every == 0 or training.step == training.total:
                score = self._look(training.result())
                progress.look(training.step, training.total, training.rates()[0], score)
                state = {"training": training.state(), "course": [self.seconds, self._heir]}
                self._folder.save(STATE, state)
        progress.close()

    def _warm_up(self, network: TorchGenerator) -> None:
        lessons, mouth = self._lessons, self._mouth
        taught = rows(lessons.plan.train)
        spoken, rests = lessons.truths[taught[0] :], lessons.plan.rests[taught]
        mouths = np.stack(
            [mouth.describe(p, lessons.truths[r]) for p, r in zip(spoken, rests, strict=True)]
        )

        def sample(rng: Any, size: int) -> tuple[Tensor, Tensor]:
            chosen = rng.integers(0, len(taught), size)
            return lessons.windows(taught[chosen]), torch.from_numpy(mouths[chosen])

        steps = self._options.audio_steps
        if steps:
            train_audio_branch(
                network,
                sample,
                mouth.components,
                steps,
                self._precision,
                lambda done, total, _loss: self._report("teaching the audio branch", done, total),
            )

    def _look(self, network: TorchGenerator) -> float:
        """Return the PSNR of the mouth in held-out patches; write the image of some of them."""
        box, scores = _within(self._mouth.box, self._lessons.region), []
        for k in range(0, len(self._judged), _SHOWN):
            batch = self._lessons.pairs(self._judged[k : k + _SHOWN], self._lessons.region).to(
                self._precision.device
            )
            with torch.no_grad():
                output = infer(network, batch).float()
            if k == 0:
                self._folder.show(batch.inputs, output, batch.targets)
            came, true = to_images(output), to_images(batch.targets)
            scores += [psnr(a[box], b[box]) for a, b in zip(came, true, strict=True)]
        return float(np.mean(scores))


def _loss(output: Tensor, batch: Batch) -> dict[str, Tensor]:
    return {
        "pixels": weighted_l1(output, batch.targets, batch.weights),
        "gradient": _GRADIENT * gradient_l1(output, batch.targets, batch.weights),
    }


def _within(box: Place, region: Place) -> Place:
    """Return what a region holds of a box, counted from the region's corner."""
    y, x = (
        slice(max(b.start - r.start, 0), min(b.stop, r.stop) - r.start)
        for b, r in zip(box, region, strict=True)
    )
    return y, x
