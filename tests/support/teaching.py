"""A toy avatar as a teacher: its lessons, the measure of its mouth, and its paste. Needs torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lipsync_preprocessing.distillation.course import DistilOptions
from lipsync_preprocessing.distillation.figures import Paster
from lipsync_preprocessing.distillation.lessons import Lessons, make_plan, rows, write_lessons
from lipsync_preprocessing.distillation.mouth import TaughtMouth
from lipsync_preprocessing.distillation.speech import Voices, read_speech
from lipsync_preprocessing.distillation.teacher import ServedGenerator
from lipsync_preprocessing.repository import Repository
from lipsync_preprocessing.training.loop import LoopSettings

from .toy_datasets import COUNT

Array = npt.NDArray[Any]

NAME = "berta"  # her network has the width 1/8
SMALLEST = Fraction(1, 16)
OPTIONS = DistilOptions(
    width=SMALLEST,
    loop=LoopSettings(crops=3, steps=5, crop_batch=2, batch=1, decay=0.5),
    audio_steps=3,
    pairs=12,
    every=4,
    device="cpu",
    precision="fp32",
    threads=1,
)


@dataclass
class Taught:
    """The lessons of a teacher, and what a student of it is measured with."""

    lessons: Lessons
    voices: Voices
    teacher: ServedGenerator
    mouth: TaughtMouth
    paste: Paster


def take_lessons(repository: Path, speech: Path, folder: Path) -> Taught:
    """Write the lessons of `berta` into a folder."""
    store = Repository(repository)
    voices = Voices(read_speech([speech]), store.model_file(store.avatar(NAME).encoder))
    plan = make_plan(COUNT, voices, OPTIONS.pairs)
    teacher = ServedGenerator(store.model_file(f"{NAME}_generator"), COUNT)
    write_lessons(folder, store.pack(NAME), plan, voices, teacher, lambda _done, _total: None)
    lessons = Lessons(folder, plan, voices)
    return Taught(lessons, voices, teacher, TaughtMouth(*lessons.probes()[:2]), Paster(store, NAME))


class Echo:
    """A student that knows the teacher's patches, and returns them late or brighter."""

    def __init__(self, lessons: Lessons, late: int = 0, brighter: int = 0) -> None:
        self.lessons, self.late, self.brighter = lessons, late, brighter

    def patches(self, frames: list[int], _windows: Array) -> Iterator[Array]:
        """Yield the patches of the held-out part, or of the quiet one, by the number of frames."""
        plan = self.lessons.plan
        spoken = len(frames) == len(rows(plan.held_out))
        for row in np.roll(rows(plan.held_out), self.late) if spoken else rows(plan.quiet):
            patch = np.minimum(self.lessons.truths[row], 255 - self.brighter)
            yield patch + np.uint8(self.brighter)
