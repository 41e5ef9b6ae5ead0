"""Parsing masks: where the original pixels of a frame stay."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from lipsync_preprocessing.contract import KEPT_COLOURS
from lipsync_preprocessing.dataset.images import read_png
from lipsync_preprocessing.dataset.numbered import Numbers, numbered_files, pair
from lipsync_preprocessing.dataset.types import Image, Rect
from lipsync_preprocessing.errors import DatasetError


class ParsingMasks:
    """The folder parsing/{k}.png.

    Raises:
        DatasetError: a frame has no mask.
    """

    def __init__(
        self,
        folder: Path,
        size: tuple[int, int],
        frames: Numbers,
        pairing: Literal["number", "order"] | None,
    ) -> None:
        self._folder, self._size = folder, size
        mine, theirs = pair(frames, numbered_files(folder, ".png"), pairing)
        self._numbers = {m - frames.first: t for m, t in zip(mine, theirs, strict=True)}

    def kept_pixels(self, place: int, rect: Rect) -> Image:
        """Return where the original pixels stay in a frame's rectangle: uint8 (h, w), 255 or 0."""
        if place not in self._numbers:
            raise DatasetError(f"{self._folder}: expected a mask for frame {place}, there is none")
        parsing = read_png(self._folder / f"{self._numbers[place]}.png", self._size)
        return kept_pixels(parsing, rect)


def kept_pixels(parsing: Image, rect: Rect) -> Image:
    """Return where a parsing image (H, W, 3) BGR keeps the original: uint8 (h, w), 255 or 0."""
    x1, y1, x2, y2 = rect
    part = parsing[y1:y2, x1:x2]
    kept = np.zeros(part.shape[:2], bool)
    for colour in KEPT_COLOURS:
        kept |= np.all(part == colour, axis=2)
    return np.where(kept, 255, 0).astype(np.uint8)
