"""Students: smaller generators that an avatar's own one has taught.

A student is a version of NAME_generator beside the avatar's own versions. Its folder holds a card,
`student.json`, which tells the two apart. No config names it but those of its profiles; see `profiles.pin`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from lipsync_preprocessing.errors import RepositoryError

STUDENT_CARD = "student.json"
_NAMES = {Fraction(1, 2): "half", Fraction(1, 4): "quarter", Fraction(1, 8): "eighth"}


@dataclass(frozen=True)
class Student:
    """A student of a repository.

    Attributes:
        version: of NAME_generator.
        width: of the network, a part of the true size, such as "1/2".
        teacher: the version that taught it.
    """

    version: int
    width: str
    teacher: int

    @property
    def name(self) -> str:
        """Return the width as a word, which the names of its profiles end in."""
        return width_name(Fraction(self.width))


def width_name(width: Fraction) -> str:
    """Return "half" for 1/2, "width-3-8" for 3/8."""
    return _NAMES.get(width, f"width-{width.numerator}-{width.denominator}")


def read_student(folder: Path, version: int) -> Student | None:
    """Return the student in a version's folder, or None if it holds one of the avatar's own generators.

    Raises:
        RepositoryError: the card cannot be read.
    """
    path = folder / STUDENT_CARD
    if not path.is_file():
        return None
    try:
        card = json.loads(path.read_text())
        width = Fraction(card["width"])
        return Student(version, str(width), int(card["teacher_version"]))
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise RepositoryError(f"{path}: expected the card of a student: {error}") from error


def newest_of_width(students: tuple[Student, ...], name: str) -> Student | None:
    """Return the newest student whose width has this name, or None."""
    return max((s for s in students if s.name == name), key=lambda s: s.version, default=None)


def student_of(name: str, students: tuple[Student, ...], width: Fraction) -> Student:
    """Return the newest student of an avatar NAME that has this width.

    Raises:
        RepositoryError: there is none; the message lists those there are.
    """
    found = newest_of_width(students, width_name(width))
    if found is None:
        has = ", ".join(f"{s.width} (version {s.version})" for s in students) or "none"
        raise RepositoryError(
            f"{name}: no student of width {width}; it has: {has}."
            f" lipsync-avatar distil {name} --width {width} teaches one"
        )
    return found
