"""The card of a student: what taught it, how long that took, and how near it is to its teacher."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lipsync_preprocessing.contract import FACE
from lipsync_preprocessing.distillation.figures import Figures
from lipsync_preprocessing.repository import STUDENT_CARD


@dataclass(frozen=True)
class StudentCard:
    """The text that lies beside a student's model.

    Attributes:
        width: of the network, a part of the true size, such as "1/2".
        region: rows and columns of the face that it computes: first and last row, and column, plus one.
        teacher_version, teacher_width: of the generator that taught it; the width is "?" if it is no
            such network.
        speech_s: seconds of speech that were given.
        pairs: number of lessons.
        steps: number of steps taken.
        seconds: time of the training, all its runs together, without that of the lessons.
        device, precision: what it ran on.
        figures: against the teacher.
    """

    width: str
    region: tuple[int, int, int, int]
    teacher_version: int
    teacher_width: str
    speech_s: float
    pairs: int
    steps: int
    seconds: float
    device: str
    precision: str
    figures: Figures

    def lines(self) -> list[str]:
        """Return the card as text."""
        return [
            f"width {self.width}, {_region_text(self.region)}",
            f"taught by version {self.teacher_version} of width {self.teacher_width}, with {self.pairs}"
            f" pairs and {self.speech_s:.0f} s of speech",
            f"{self.steps} steps in {self.seconds / 60:.0f} min on {self.device}, {self.precision}",
            *self.figures.lines(),
        ]

    def write(self, folder: Path) -> None:
        """Write the card into a folder."""
        (folder / STUDENT_CARD).write_text(json.dumps(asdict(self), indent=1) + "\n")


def _region_text(region: tuple[int, int, int, int]) -> str:
    top, bottom, left, right = region
    if (bottom - top) * (right - left) == FACE**2:
        return "the whole face"
    return f"rows {top}-{bottom} and columns {left}-{right} of the face's {FACE}"
