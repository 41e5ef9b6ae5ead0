"""Teaching a smaller generator by the avatar's own one, from the first lesson to the new version."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from lipsync_preprocessing.avatar import add_student
from lipsync_preprocessing.avatar.pack import map_faces
from lipsync_preprocessing.distillation.card import StudentCard
from lipsync_preprocessing.distillation.figures import Paster, compare
from lipsync_preprocessing.distillation.inheritance import inherit
from lipsync_preprocessing.distillation.lessons import (
    FACES,
    Lessons,
    make_plan,
    rows,
    write_lessons,
)
from lipsync_preprocessing.distillation.mouth import TaughtMouth
from lipsync_preprocessing.distillation.region import moved_region
from lipsync_preprocessing.distillation.speech import Voices, length, read_speech
from lipsync_preprocessing.distillation.teacher import ServedGenerator, digest, graph_file, width_of
from lipsync_preprocessing.errors import TrainingError
from lipsync_preprocessing.graphs.compile import write_compiled_generator
from lipsync_preprocessing.graphs.networks import Generator
from lipsync_preprocessing.graphs.onnx_files import read_proto
from lipsync_preprocessing.networks.build import build_generator
from lipsync_preprocessing.networks.checkpoint import load_generator_state
from lipsync_preprocessing.networks.layers import WHOLE, Place
from lipsync_preprocessing.networks.torch_networks import TorchGenerator
from lipsync_preprocessing.repository import GENERATOR, InstalledAvatar, Repository, width_name
from lipsync_preprocessing.training.evaluation import psnr, to_images
from lipsync_preprocessing.training.folder import INPUTS, STATE, TrainingFolder
from lipsync_preprocessing.training.loop import GeneratorTraining, LoopSettings
from lipsync_preprocessing.training.losses import gradient_l1, weighted_l1
from lipsync_preprocessing.training.material import mouth_weights
from lipsync_preprocessing.training.pairs import Batch, infer
from lipsync_preprocessing.training.precision import Precision, choose_precision, device_name
from lipsync_preprocessing.training.progress import Progress, Report, named
from lipsync_preprocessing.training.warm_up import train_audio_branch

Say = Callable[[str], object]

MOUTH, FACE_ITSELF = REGIONS = "mouth", "face"
LESSONS, CHECKPOINT, STUDENT = "lessons", "student.pth", "student"
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


def distil(
    repository: str | Path,
    name: str,
    work: Path,
    speech: Sequence[Path],
    options: DistilOptions,
    *,
    report: Report = lambda _what, _done, _total: None,
    say: Say = print,
) -> tuple[StudentCard, int]:
    """Teach a student; return its card and its version.

    Args:
        repository: the model repository.
        name: of the avatar, whose newest own generator is the teacher.
        work: folder for the lessons, which students of several widths share, and for the training.
        speech: audio files of any voices.
        options: options of the distillation.
        report: called with progress.
        say: called with a line now and then.

    Raises:
        AvatarError: an input cannot be used, there is a training already, or the student is below a floor;
            the repository is as it was.
    """
    store = Repository(repository)
    avatar = store.avatar(name)
    graph = _teachers_graph(store, avatar)
    own = _checked_width(graph, avatar.name, options)
    teacher_width = "?" if own is None else str(own)
    teacher = ServedGenerator(graph, avatar.frames)
    precision = choose_precision(options.device, options.precision)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    samples = read_speech(speech)
    depends = {
        "generator": digest(graph),
        "frame pack": digest(store.pack(name)),
        "speech": hashlib.sha256(b"".join(s.tobytes() for s in samples)).hexdigest()[:16],
        "number of pairs": options.pairs,
    }
    lessons_folder = TrainingFolder(work / LESSONS, depends, resume=True).path
    course = {"precision": precision.kind, **asdict(options), "width": str(options.width)}
    for other in ("resume", "device", "pairs"):
        del course[other]
    place = work / width_name(options.width)
    folder = TrainingFolder(place, {**depends, **course}, resume=options.resume)
    voices = Voices(samples, store.model_file(avatar.encoder))
    plan = make_plan(avatar.frames, voices, options.pairs)
    begun = time.monotonic()
    made = named(report, "the teacher's patches")
    write_lessons(lessons_folder, store.pack(name), plan, voices, teacher, made)
    taken = (time.monotonic() - begun) / 60
    say(
        f"{len(plan.frames)} patches of the teacher, {length(samples):.0f} s of speech: {taken:.1f} min"
    )
    lessons = Lessons(lessons_folder, plan, voices)
    spoken, rests, faces = lessons.probes()
    mouth = TaughtMouth(spoken, rests)
    region = moved_region(spoken, rests, faces) if options.region == MOUTH else WHOLE
    if options.width == own and region == WHOLE:
        raise TrainingError(
            f"{name}: its generator moves the whole face, so a student of its width saves nothing: expected a"
            f" --width below {teacher_width}"
        )
    lessons.look_at(mouth.centre, mouth_weights(mouth.centre), region)
    run = _Run(lessons, mouth, read_proto(graph), region, folder, options, precision, report, say)
    training = run.begin()
    run.go_on(training)
    state = {k: v.cpu() for k, v in training.result().state_dict().items()}
    torch.save(state, place / CHECKPOINT)
    student = place / STUDENT
    shutil.rmtree(student, ignore_errors=True)
    student.mkdir()
    model = build_generator(load_generator_state(place / CHECKPOINT), at=region)
    network = Generator(model, "input", "audio", "output", region)
    write_compiled_generator(network, map_faces(lessons_folder / FACES), student / "model.onnx")
    say("measuring the student")
    served = ServedGenerator(student / "model.onnx", avatar.frames)
    figures = compare(served, lessons, mouth, Paster(store, name))
    card = StudentCard(
        width=str(options.width),
        region=tuple(edge for part in region for edge in (part.start, part.stop)),
        teacher_version=avatar.versions[-1],
        teacher_width=teacher_width,
        speech_s=length(samples),
        pairs=options.pairs,
        steps=training.step,
        seconds=run.seconds,
        device=device_name(precision),
        precision=precision.kind,
        figures=figures,
    )
    card.write(student)
    # The training is at its end, whatever came of it: another one may begin.
    for file in (place / STATE, place / INPUTS):
        file.unlink(missing_ok=True)
    refusal = figures.refusal()
    if refusal is not None:
        for line in card.lines():
            say(line)
        raise TrainingError(f"{name}: the student of width {options.width} is refused: {refusal}")
    version = add_student(repository, name, student)
    shutil.rmtree(student)
    return card, version


class _Run:
    """The steps of a training, with its losses, its looks at the held-out part, and its states on disk."""

    def __init__(
        self,
        lessons: Lessons,
        mouth: TaughtMouth,
        teacher: onnx.ModelProto,
        region: Place,
        folder: TrainingFolder,
        options: DistilOptions,
        precision: Precision,
        report: Report,
        say: Say,
    ) -> None:
        self._lessons, self._mouth, self._folder = lessons, mouth, folder
        self._teacher, self._region = teacher, region
        self._options, self._precision = options, precision
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
        box, scores = _within(self._mouth.box, self._region), []
        for k in range(0, len(self._judged), _SHOWN):
            batch = self._lessons.pairs(self._judged[k : k + _SHOWN], self._region).to(
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


def _teachers_graph(store: Repository, avatar: InstalledAvatar) -> Path:
    if avatar.missing:
        raise TrainingError(f"{avatar.name}: nothing to learn from in {', '.join(avatar.missing)}")
    return graph_file(store.model_file(avatar.name + GENERATOR, avatar.versions[-1]))


def _checked_width(graph: Path, name: str, options: DistilOptions) -> Fraction | None:
    """Return the teacher's width; raise TrainingError if the student would save nothing."""
    teachers, width = width_of(read_proto(graph)), options.width
    same = width == teachers and options.region == MOUTH
    if teachers is not None and width >= teachers and not same:
        raise TrainingError(
            f"{name}: expected a --width below that of its own generator, {teachers} of the true size, or"
            f" for --region {MOUTH} the same, got {width} for --region {options.region}"
        )
    return teachers


def _within(box: Place, region: Place) -> Place:
    """Return what a region holds of a box, counted from the region's corner."""
    y, x = (
        slice(max(b.start - r.start, 0), min(b.stop, r.stop) - r.start)
        for b, r in zip(box, region, strict=True)
    )
    return y, x
