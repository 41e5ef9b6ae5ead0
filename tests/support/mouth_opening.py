"""The opening of a drawn mouth, measured in the image."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_SIZE = 320  # pixels: every face is measured at this size
_ROWS, _COLUMNS = (
    slice(165, 290),
    slice(130, 186),
)  # about the mouth's middle, wherever the head turns
_DARK, _BRIGHT, _PALE = 100, 185, 50  # grey levels


SHIFTS = range(-4, 5)  # frames


def matches(came: NDArray[Any], truth: NDArray[Any]) -> list[float]:
    """Return the correlation of rendered openings with the drawn ones for each of SHIFTS."""
    inner = slice(4, len(truth) - 4)
    return [float(np.corrcoef(np.roll(came, s)[inner], truth[inner])[0, 1]) for s in SHIFTS]


def opening(face: NDArray[Any]) -> float:
    """Mean height between the lips, pixels of a face of 320.

    In each column about the mouth's middle: from the first to the last pixel that is dark as the mouth's
    inside or white as teeth; lips, tongue and skin are neither.

    Args:
        face: uint8 (side, side, 3) BGR, the face square of a frame.
    """
    square = cv2.resize(face, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA)[_ROWS, _COLUMNS].astype(
        int
    )
    low, high = square.min(2), square.max(2)
    inside = (high < _DARK) | ((low > _BRIGHT) & (high - low < _PALE))
    rows = np.arange(len(inside))[:, None]
    first = np.where(inside, rows, len(inside)).min(0)
    last = np.where(inside, rows, -1).max(0)
    return float(np.maximum(0, last - first + 1).mean())
