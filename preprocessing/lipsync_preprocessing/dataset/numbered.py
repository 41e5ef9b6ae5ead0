"""Folders of numbered files, and which numbers of two of them belong together."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lipsync_preprocessing.errors import DatasetError


@dataclass(frozen=True)
class Numbers:
    """Consecutive numbers of frames, landmark files or rectangles.

    Attributes:
        where: the folder or file, for messages.
        first, count: the numbers are first … first + count - 1.
    """

    where: Path
    first: int
    count: int

    @property
    def last(self) -> int:
        return self.first + self.count - 1

    def __str__(self) -> str:
        return f"{self.where.name} holds {self.first} to {self.last}"


def numbered_files(folder: Path, suffix: str) -> Numbers:
    """Return the numbers of the files {k}{suffix} of a folder, which count from 0 or 1.

    Raises:
        DatasetError: there are none, one is missing, or a file has another name.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: expected a folder of {{k}}{suffix}, there is none")
    numbers = set()
    for name in (p.name for p in folder.iterdir() if not p.name.startswith(".")):
        match = re.fullmatch(r"(0|[1-9]\d{0,8})" + re.escape(suffix), name)
        if match:
            numbers.add(int(match[1]))
        elif name.lower().endswith((suffix, ".jpeg", ".jpg", ".png")):
            raise DatasetError(f"{folder / name}: expected names 0{suffix}, 1{suffix}, …")
    if not numbers:
        raise DatasetError(f"{folder}: expected files 0{suffix}, 1{suffix}, …, got none")
    return consecutive(folder, numbers, suffix)


def consecutive(where: Path, numbers: Collection[int], suffix: str = "") -> Numbers:
    """Return the numbers if they are consecutive from 0 or 1; raise DatasetError if one is missing."""
    first = 0 if 0 in numbers else 1
    missing = next((k for k in range(first, first + len(numbers)) if k not in numbers), None)
    if missing is not None:
        place = f"{where / f'{missing}{suffix}'}" if suffix else f"{where}: {str(missing)!r}"
        raise DatasetError(f"{place}: is missing; the others go on to {max(numbers)}{suffix}")
    return Numbers(where, first, len(numbers))


def pair(
    frames: Numbers, others: Numbers, pairing: Literal["number", "order"] | None
) -> tuple[range, range]:
    """Return the numbers of the frames and of what belongs to them, in order and as many of both.

    Frames that FFmpeg extracts are numbered from 1, landmarks from 0: with as many of both, the order
    decides.

    Raises:
        DatasetError: their counts differ and `pairing` does not say what belongs together.
    """
    if frames.count == others.count and pairing is None:
        pairing = "order"
    if pairing == "order":
        count = min(frames.count, others.count)
        return (
            range(frames.first, frames.first + count),
            range(others.first, others.first + count),
        )
    if pairing == "number":
        common = range(max(frames.first, others.first), min(frames.last, others.last) + 1)
        if not common:
            raise DatasetError(f"{others.where}: expected numbers of frames; {frames}, {others}")
        return common, common
    if frames.first == others.first:
        raise DatasetError(
            f"{others.where}: expected as many as there are frames; {frames}, {others}. Add what is"
            " missing, or give --pairing number to use the numbers that both have"
        )
    raise DatasetError(
        f"{others.where}: expected as many as there are frames; {frames}, {others}. Give --pairing number"
        " if equal numbers belong together, or --pairing order if the first belongs to the first"
    )
