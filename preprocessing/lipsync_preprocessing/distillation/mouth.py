"""The mouth as the teacher moves it: its place in the face, and a measure of its opening.

No landmarks are needed. The teacher's patch for speech, less its patch of the same frame for silence, shows
what the audio changes: where that is most lies the mouth, and its main component (of all frames together) is
the opening. What the head does between frames is in both, and cancels.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from lipsync_preprocessing.contract import FACE
from lipsync_preprocessing.dataset.types import Image
from lipsync_preprocessing.errors import TrainingError
from lipsync_preprocessing.training.mouth import mouth_box, small_grey

Floats = npt.NDArray[np.float64]

_BLUR = 9  # pixels, the deviation
_MOST_COMPONENTS = 24
_LEAST_MOVEMENT = 0.25  # grey levels, in the mean of the probes
_CLOSED = 0.25  # of a wide opening


class TaughtMouth:
    """The measure.

    Args:
        spoken: patches for speech, uint8 (320, 320, 3) BGR.
        rests: the patch of the same frame for silence, for each.

    Attributes:
        centre: the mouth's place, x and y as parts of the face's side.
        box: rows and columns about it.
        components: number of components that describe a mouth.
        closed_below: an opening under which a mouth counts as closed; that in silence is zero.

    Raises:
        TrainingError: the teacher returns the same for speech and silence.
    """

    def __init__(self, spoken: Sequence[Image], rests: Sequence[Image]) -> None:
        moved = np.zeros((FACE, FACE))
        for patch, rest in zip(spoken, rests, strict=True):
            moved += cv2.absdiff(patch, rest).mean(axis=2) / len(spoken)
        moved = np.asarray(cv2.GaussianBlur(moved, (0, 0), _BLUR))
        if moved.max() < _LEAST_MOVEMENT:
            raise TrainingError(
                "the avatar's generator returns the same patches for speech and silence, so there is nothing"
                " to teach: lipsync-avatar check says more"
            )
        near = moved * (moved > 0.5 * moved.max())
        x, y = (near.sum(axis).dot(np.arange(FACE)) / near.sum() / FACE for axis in (0, 1))
        self.centre = float(x), float(y)
        self.box = mouth_box(self.centre)
        seen = np.stack([self._change(p, r) for p, r in zip(spoken, rests, strict=True)])
        # Not about their mean: zero stays the mouth in silence.
        _, values, directions = np.linalg.svd(seen, full_matrices=False)
        self.components = min(_MOST_COMPONENTS, len(values))
        self._scale = float(values[0]) / np.sqrt(len(seen))
        sign = 1.0 if (seen @ directions[0]).sum() >= 0 else -1.0
        self._directions = sign * directions[: self.components]
        openings = seen @ self._directions[0] / self._scale
        self.closed_below = _CLOSED * float(np.percentile(openings, 95))

    def describe(self, patch: Image, rest: Image) -> npt.NDArray[np.float32]:
        """Return a mouth as numbers of order one, float32 [components]; zeros in silence."""
        described = self._change(patch, rest) @ self._directions.T / self._scale
        return np.asarray(described, np.float32)

    def opening(self, patch: Image, rest: Image) -> float:
        """Return the opening of the mouth of a patch, against the teacher's of the same frame in silence."""
        return float(self._change(patch, rest) @ self._directions[0] / self._scale)

    def _change(self, patch: Image, rest: Image) -> Floats:
        return small_grey(patch[self.box]) - small_grey(rest[self.box])
