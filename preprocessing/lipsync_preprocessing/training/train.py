"""Training a generator on a dataset, from the first face to the card."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lipsync_preprocessing.dataset import DatasetOptions, read_dataset
from lipsync_preprocessing.errors import TrainingError
from lipsync_preprocessing.networks.torch_networks import TorchGenerator
from lipsync_preprocessing.recording.audio import SAMPLE_RATE
from lipsync_preprocessing.training.card import Card
from lipsync_preprocessing.training.evaluation import (
    Tools,
    agreement_warning,
    evaluate,
    render,
    sync_score,
)
from lipsync_preprocessing.training.folder import FACES, STATE, SYNC, TrainingFolder
from lipsync_preprocessing.training.loop import GeneratorTraining, LoopSettings
from lipsync_preprocessing.training.losses import gradient_l1, perceptual_loss, weighted_l1
from lipsync_preprocessing.training.material import Material, read_measured, write_faces
from lipsync_preprocessing.training.mouth import MouthMeasure
from lipsync_preprocessing.training.pairs import Batch
from lipsync_preprocessing.training.precision import Precision, choose_precision, device_name
from lipsync_preprocessing.training.progress import Progress, Report, named
from lipsync_preprocessing.training.speech import Speech, dataset_audio
from lipsync_preprocessing.training.sync import SyncNetwork, train_sync
from lipsync_preprocessing.training.warm_up import train_audio_branch

Say = Callable[[str], object]

FULL, MOBILE = 1.0, 0.5
_SILENCE_S = 2
_JUDGED, _BETTER = 48, 0.002  # held-out frames that the sync is watched on; a smaller gain is none


@dataclass(frozen=True)
class TrainingOptions:
    """Options of a training.

    Attributes:
        width: of the network: 1 full, 0.5 mobile.
        loop: its steps and learning rates.
        audio_steps: steps of the audio branch alone, before.
        sync_steps: steps of the sync network; 0 leaves the sync loss out.
        gradient, sync, perceptual: weights of these losses; that of the pixels is 1.
        every: steps between two looks at the held-out part.
        patience: number of looks without a better sync after which the training ends; 0 never ends it early.
        device, precision: see `choose_precision`.
        threads: of the CPU; None leaves it to torch. Where other programs keep the cores busy, one is faster.
        resume: go on with an interrupted training.
    """

    width: float = FULL
    loop: LoopSettings = field(default_factory=lambda: LoopSettings(decay=0.5))
    audio_steps: int = 1000
    sync_steps: int = 800
    gradient: float = 0.5
    sync: float = 0.003
    perceptual: float = 0.01
    every: int = 250
    patience: int = 4
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    resume: bool = False


def train_generator(
    dataset_dir: Path,
    encoder: Path,
    output: Path,
    options: TrainingOptions,
    *,
    audio: Path | None = None,
    dataset_options: DatasetOptions | None = None,
    report: Report = lambda _what, _done, _total: None,
    say: Say = print,
) -> Card:
    """Train a generator; write its checkpoint and its card.

    Args:
        dataset_dir: the dataset folder.
        encoder: the audio encoder's ONNX file or checkpoint.
        output: the checkpoint, a .pth. The training's own folder lies beside it, as NAME.training.
        options: options of the training.
        audio: the dataset's audio; None looks for it in the folder.
        dataset_options: how to read the dataset where it leaves a choice.
        report: called with progress.
        say: called with a line now and then.

    Raises:
        AvatarError: an input cannot be used, or there is a training already.
    """
    if output.exists():
        raise TrainingError(f"{output}: exists already; remove it, or choose another name")
    if output.suffix != ".pth":
        raise TrainingError(f"{output}: expected a name that ends in .pth")
    precision = choose_precision(options.device, options.precision)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    dataset = read_dataset(dataset_dir, dataset_options)
    measured = read_measured(dataset_dir, len(dataset))
    samples = dataset_audio(dataset_dir, audio)
    speech = Speech(samples, encoder)
    silence = Speech(samples[: _SILENCE_S * SAMPLE_RATE] * 0, encoder)
    inputs = _inputs(options, encoder, dataset.rects, len(samples), precision)
    folder = TrainingFolder(output.with_suffix(".training"), inputs, resume=options.resume)
    if not (folder / FACES).is_file():
        write_faces(dataset, folder / FACES, named(report, "cutting out faces"))
    material = Material(folder / FACES, speech, measured)
    measure = MouthMeasure(material)
    torch.manual_seed(0)
    sync = _sync_network(material, folder, options, precision, report)
    if sync is not None and (warning := agreement_warning(material, sync, precision.device)):
        say(warning)
    middle = silence.windows(np.array([len(silence) // 2]))
    tools = Tools(measure, sync, middle.to(precision.device), precision.device)
    run = _Run(material, tools, folder, options, precision, report, say)
    training = run.begin()
    run.go_on(training)
    network = training.result()
    scores = evaluate(network, material, tools)
    card = Card(
        dataset=dataset_dir.name,
        audio_encoder=encoder.name,
        width=options.width,
        frames=len(material.train),
        steps=training.step,
        ended_early=training.step < options.loop.crops + options.loop.steps,
        seconds=run.seconds,
        device=device_name(precision),
        precision=precision.kind,
        perceptual=run.perceptual is not None,
        scores=scores,
    )
    scratch = output.with_suffix(".partial")
    torch.save({k: v.cpu() for k, v in network.state_dict().items()}, scratch)
    card.write(output)
    scratch.replace(output)
    for name in (FACES, STATE, SYNC):
        (folder / name).unlink(missing_ok=True)
    return card


class _Run:
    """The steps of a training, with its losses, its looks at the held-out part, and its states on disk."""

    def __init__(
        self,
        material: Material,
        tools: Tools,
        folder: TrainingFolder,
        options: TrainingOptions,
        precision: Precision,
        report: Report,
        say: Say,
    ) -> None:
        self._material, self._tools, self._folder = material, tools, folder
        self._options, self._precision = options, precision
        self._report, self._say = report, say
        self.perceptual = perceptual_loss()
        if self.perceptual is not None:
            self.perceptual.to(precision.device)
        held = material.held_out
        self._judged = held[:: max(1, len(held) // _JUDGED)][:_JUDGED]
        self._best, self._since, self._spent = -1e9, 0, 0.0
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """Return the time that all runs of this training took."""
        return self._spent + time.monotonic() - self._begun

    def begin(self) -> GeneratorTraining:
        """Return the training as it was left, or a new one after the audio branch's own."""
        options = self._options
        torch.manual_seed(1)
        network = TorchGenerator(options.width)
        state = self._folder.load(STATE, self._precision.device)
        if state is None:
            self._warm_up(network)
        training = GeneratorTraining(
            network, self._material, options.loop, self._loss, self._precision
        )
        if state is not None:
            training.load_state(state["training"])
            self._best, self._since, self._spent = state["course"]
            self._say(f"going on at step {training.step} of {training.total}")
        return training

    def go_on(self, training: GeneratorTraining) -> None:
        """Take the steps that remain."""
        progress = Progress(self._folder, training.step, self._say)
        for terms in training.run():
            progress.add(terms)
            self._report("training", training.step, training.total)
            if training.step % self._options.every == 0 or training.step == training.total:
                self._look(training, progress)
                course = [self._best, self._since, self.seconds]
                self._folder.save(STATE, {"training": training.state(), "course": course})
        progress.close()

    def _warm_up(self, network: TorchGenerator) -> None:
        measure, material = self._tools.measure, self._material

        def sample(rng: Any, size: int) -> tuple[Tensor, Tensor]:
            frames = rng.choice(material.train, size)
            mouths = [torch.from_numpy(measure.describe(material.faces[k])) for k in frames]
            return material.speech.windows(frames), torch.stack(mouths)

        steps = self._options.audio_steps
        if steps:
            train_audio_branch(
                network,
                sample,
                measure.components,
                steps,
                self._precision,
                lambda done, total, _loss: self._report("training the audio branch", done, total),
            )

    def _loss(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        options, sync = self._options, self._tools.sync
        terms = {
            "pixels": weighted_l1(output, batch.targets, batch.weights),
            "gradient": options.gradient * gradient_l1(output, batch.targets, batch.weights),
        }
        if self.perceptual is not None:
            terms["perceptual"] = options.perceptual * self.perceptual(output, batch.targets)
        whole = output.shape[2:] == (self._material.faces.shape[1], self._material.faces.shape[2])
        if sync is not None and whole:
            terms["sync"] = options.sync * (1 - sync.agreement(output, batch.audio)).mean()
        return terms

    def _look(self, training: GeneratorTraining, progress: Progress) -> None:
        network = training.result()
        score = sync_score(network, self._material, self._judged, self._tools)
        shown = self._judged[:: max(1, len(self._judged) // 6)][:6]
        batch, output = next(iter(render(network, self._material, shown, self._tools)))
        self._folder.show(batch.inputs, output, batch.targets)
        progress.look(training.step, training.total, training.rates()[0], score)
        if score > self._best + _BETTER:
            self._best, self._since = score, 0
        elif not training.on_crops:
            self._since += 1
        if 0 < self._options.patience == self._since:
            self._say("held-out sync does not improve any more: the last steps follow")
            training.end_early(max(1, round(0.3 * self._options.loop.steps)))


def _sync_network(
    material: Material,
    folder: TrainingFolder,
    options: TrainingOptions,
    precision: Precision,
    report: Report,
) -> SyncNetwork | None:
    if not options.sync_steps:
        return None
    network = SyncNetwork(material.measured.mouth)
    state = folder.load(SYNC, precision.device)
    if state is not None:
        network.load_state_dict(state)
        return network.to(precision.device).eval().requires_grad_(False)
    trained = named(report, "training the sync network")
    train_sync(network, material.matching, options.sync_steps, precision.device, trained)
    folder.save(SYNC, network.state_dict())
    return network


def _inputs(
    options: TrainingOptions, encoder: Path, rects: Any, samples: int, precision: Precision
) -> dict[str, Any]:
    """Return what a training depends on, under names that an error can use."""
    chosen = asdict(options)
    for name in ("resume", "device", "precision"):
        del chosen[name]
    digest = hashlib.sha256(encoder.read_bytes()).hexdigest()[:16]
    frames = hashlib.sha256(repr(rects).encode()).hexdigest()[:16]
    return {
        "audio encoder": digest,
        "face rectangles": frames,
        "length of the audio": samples,
        "precision": precision.kind,
        **chosen,
    }
