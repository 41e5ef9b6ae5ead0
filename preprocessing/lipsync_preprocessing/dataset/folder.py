"""A folder of JPEGs as a source of frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from lipsync_preprocessing.dataset.images import read_jpeg
from lipsync_preprocessing.dataset.numbered import numbered_files
from lipsync_preprocessing.dataset.types import Image, VideoCoding


class FrameFolder:
    """A folder of {k}.jpg, k from 0 or 1; a FrameSource."""

    rate: Fraction | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        numbers = numbered_files(path, ".jpg")
        self.first, self._count = numbers.first, numbers.count
        height, width = read_jpeg(self._file(0))[0].shape[:2]
        self.size = width, height

    def __len__(self) -> int:
        return self._count

    def read(self, selection: Sequence[int]) -> Iterator[tuple[Image, bytes]]:
        for place in selection:
            yield read_jpeg(self._file(place), self.size)

    def coding(self, selection: Sequence[int]) -> VideoCoding | None:  # noqa: ARG002
        return None

    def _file(self, place: int) -> Path:
        return self.path / f"{self.first + place}.jpg"
