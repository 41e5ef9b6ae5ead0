"""The part of the face that a student computes: where the teacher changes the frame at all."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from lipsync_preprocessing.contract import FACE
from lipsync_preprocessing.dataset.types import Image
from lipsync_preprocessing.graphs.frame_input import FADE
from lipsync_preprocessing.networks.layers import STRIDE, WHOLE, Place

_BLUR = 3  # pixels, the deviation: fine texture that the teacher does not return is no movement
_OFTEN = 95  # percentile of the patches
_MOVED = 6.0  # grey levels between speech and silence
_REPAINTED = 16.0  # grey levels between the teacher's patch and the frame


def moved_region(spoken: Sequence[Image], rests: Sequence[Image], faces: Sequence[Image]) -> Place:
    """Return the smallest part of the face that holds all that the teacher moves, and its edge to fade in.

    Args:
        spoken: the teacher's patches for speech, uint8 (320, 320, 3) BGR.
        rests: its patch of the same frame in silence, for each.
        faces: the frame's own face, for each.
    """
    moved = [_difference(p, r) for p, r in zip(spoken, rests, strict=True)]
    repainted = [_difference(r, f) for r, f in zip(rests, faces, strict=True)]
    changed = (_often(moved) > _MOVED) | (_often(repainted) > _REPAINTED)
    if not changed.any():
        return WHOLE
    rows, columns = (_around(np.flatnonzero(changed.any(axis))) for axis in (1, 0))
    return rows, columns


def _difference(one: Image, other: Image) -> npt.NDArray[np.float32]:
    blurred = cv2.GaussianBlur(one.astype(np.float32) - other, (0, 0), _BLUR)
    return np.asarray(np.abs(blurred).max(axis=2), np.float32)


def _often(differences: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    return np.asarray(np.percentile(differences, _OFTEN, axis=0), np.float32)


def _around(places: npt.NDArray[np.intp]) -> slice:
    """Return the rows or columns that hold these and an edge beside them."""
    first, last = int(places[0]) - FADE, int(places[-1]) + 1 + FADE
    return slice(max(first, 0) // STRIDE * STRIDE, min(-(-last // STRIDE) * STRIDE, FACE))
