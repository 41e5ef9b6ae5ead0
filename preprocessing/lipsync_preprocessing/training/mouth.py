"""Measuring a mouth in an image of a face: its opening, as learned from the training part of the video.

The main components of the surroundings (Turk and Pentland, "Eigenfaces", 1991) are fitted to the opening
that was measured on the frames. Datasets without that measurement have the first component in its place: it
is the largest change about the mouth, and its sign is the one that goes with loud audio.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from lipsync_preprocessing.contract import FACE
from lipsync_preprocessing.dataset.types import Image
from lipsync_preprocessing.training.material import Material

Floats = npt.NDArray[np.float64]

WIDTH, HEIGHT = 144, 112  # pixels about the mouth
_SMALL = 24, 18  # what they are scaled to
_MOST_FRAMES, _COMPONENTS = 1500, 24
_RIDGE = 1e-2  # of the largest component's variance
_QUIET = 20  # percentile


class MouthMeasure:
    """The measure, learned from a dataset.

    Attributes:
        components: number of components that describe a mouth.
        closed_below: an opening under which a mouth counts as closed.
    """

    def __init__(self, material: Material) -> None:
        self.box = mouth_box(material.measured.mouth)
        train = material.train
        every = train[:: max(1, len(train) // _MOST_FRAMES)]
        patches = np.stack([self._patch(material.faces[k]) for k in every])
        self._mean = patches.mean(0)
        _, values, directions = np.linalg.svd(patches - self._mean, full_matrices=False)
        self.components = min(_COMPONENTS, len(values))
        self._directions = directions[: self.components]
        self._scale = max(float(values[0]) / np.sqrt(len(every)), 1e-6)
        described = self._describe(patches)
        measured = material.measured.opening
        level = material.speech.level[every]
        if measured is not None and measured[every].std() > 0:
            wanted = measured[every]
        else:
            first = described[:, 0]
            with np.errstate(invalid="ignore"):
                match = np.corrcoef(first, level)[0, 1]
            wanted = -first if match < 0 else first
        gram = described.T @ described + _RIDGE * len(every) * np.eye(self.components)
        self._offset = float(wanted.mean())
        self._fit = np.linalg.solve(gram, described.T @ (wanted - self._offset))
        openings = self._offset + described @ self._fit
        closed = material.measured.closed
        at_rest = level < np.percentile(level, _QUIET) if closed is None else closed[every]
        rest = float(np.median(openings[at_rest])) if at_rest.any() else float(openings.min())
        self.closed_below = rest + 0.25 * (float(np.percentile(openings, 95)) - rest)

    def describe(self, face: Image) -> npt.NDArray[np.float32]:
        """Return a mouth as numbers of order one, float32 [components], of a face uint8 (320, 320, 3)."""
        return np.asarray(self._describe(self._patch(face)[None])[0], np.float32)

    def opening(self, face: Image) -> float:
        """Return the opening of the mouth of a face, uint8 (320, 320, 3) BGR."""
        return self._offset + float((self._describe(self._patch(face)[None]) @ self._fit)[0])

    def _patch(self, face: Image) -> Floats:
        return small_grey(face[self.box])

    def _describe(self, patches: Floats) -> Floats:
        return np.asarray((patches - self._mean) @ self._directions.T / self._scale)


def mouth_box(mouth: tuple[float, float]) -> tuple[slice, slice]:
    """Return rows and columns about a mouth, which is given as x and y in parts of the face's side."""
    left = min(max(round(mouth[0] * FACE) - WIDTH // 2, 0), FACE - WIDTH)
    top = min(max(round(mouth[1] * FACE) - HEIGHT // 2, 0), FACE - HEIGHT)
    return slice(top, top + HEIGHT), slice(left, left + WIDTH)


def small_grey(image: Image) -> Floats:
    """Return a mouth, uint8 (112, 144, 3) BGR, as a few grey levels whose mean is zero: float64 [432]."""
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, _SMALL, interpolation=cv2.INTER_AREA).astype(np.float64)
    return np.asarray((small - small.mean()).ravel())
