"""Teaching a smaller generator by the avatar's own one, from the first lesson to the new version."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import onnx
import torch

from lipsync_preprocessing.avatar import add_student
from lipsync_preprocessing.avatar.pack import map_faces
from lipsync_preprocessing.distillation.card import StudentCard
from lipsync_preprocessing.distillation.course import MOUTH, Course, DistilOptions
from lipsync_preprocessing.distillation.figures import Paster, compare
from lipsync_preprocessing.distillation.lessons import (
    FACES,
    Lessons,
    make_plan,
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
from lipsync_preprocessing.repository import GENERATOR, InstalledAvatar, Repository, width_name
from lipsync_preprocessing.training.folder import INPUTS, STATE, TrainingFolder
from lipsync_preprocessing.training.material import mouth_weights
from lipsync_preprocessing.training.precision import choose_precision, device_name
from lipsync_preprocessing.training.progress import Report, named

Say = Callable[[str], object]

LESSONS, CHECKPOINT, STUDENT = "lessons", "student.pth", "student"


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
    teachers = read_proto(graph)
    own = _checked_width(teachers, avatar.name, options)
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
    chosen = {"precision": precision.kind, **asdict(options), "width": str(options.width)}
    for other in ("resume", "device", "pairs"):
        del chosen[other]
    place = work / width_name(options.width)
    folder = TrainingFolder(place, {**depends, **chosen}, resume=options.resume)
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
    try:
        mouth, region = _mouth_and_region(lessons, name, options, own)
    except TrainingError:
        (place / INPUTS).unlink()  # nothing was begun
        raise
    lessons.look_at(mouth.centre, mouth_weights(mouth.centre), region)
    course = Course(lessons, mouth, teachers, folder, options, precision, report, say)
    training = course.begin()
    course.go_on(training)
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
        teacher_width="?" if own is None else str(own),
        speech_s=length(samples),
        pairs=options.pairs,
        steps=training.step,
        seconds=course.seconds,
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


def _mouth_and_region(
    lessons: Lessons, name: str, options: DistilOptions, teachers_width: Fraction | None
) -> tuple[TaughtMouth, Place]:
    """Return the mouth's measure, and the part of the face to compute.

    Raises:
        TrainingError: the teacher moves nothing, or so much that the student would save nothing.
    """
    spoken, rests, faces = lessons.probes()
    mouth = TaughtMouth(spoken, rests)
    region = moved_region(spoken, rests, faces) if options.region == MOUTH else WHOLE
    if options.width == teachers_width and region == WHOLE:
        raise TrainingError(
            f"{name}: its generator moves the whole face, so a student of its width saves nothing: expected a"
            f" --width below {teachers_width}"
        )
    return mouth, region


def _teachers_graph(store: Repository, avatar: InstalledAvatar) -> Path:
    if avatar.missing:
        raise TrainingError(f"{avatar.name}: nothing to learn from in {', '.join(avatar.missing)}")
    return graph_file(store.model_file(avatar.name + GENERATOR, avatar.versions[-1]))


def _checked_width(graph: onnx.ModelProto, name: str, options: DistilOptions) -> Fraction | None:
    """Return the teacher's width; raise TrainingError if the student would save nothing."""
    teachers, width = width_of(graph), options.width
    same = width == teachers and options.region == MOUTH
    if teachers is not None and width >= teachers and not same:
        raise TrainingError(
            f"{name}: expected a --width below that of its own generator, {teachers} of the true size, or"
            f" for --region {MOUTH} the same, got {width} for --region {options.region}"
        )
    return teachers
