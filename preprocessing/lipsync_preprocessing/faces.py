"""From a frame and its rectangle to the 320x320 face the generator sees. CONTRACT arithmetic."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from lipsync_preprocessing.networks import FACE

Image = npt.NDArray[np.uint8]
Rect = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels; x2 and y2 outside

CROP = 328  # side of the square a rectangle is resized to, pixels
BORDER = (CROP - FACE) // 2  # of it, never seen by the generator
# Parsing colours (BGR) where the original pixel stays.
KEPT_COLOURS = ((0, 0, 255), (255, 255, 255))


def clip_rect(rect: Rect, width: int, height: int) -> Rect | None:
    """The part of a rectangle inside the frame; None if nothing is."""
    x1, y1, x2, y2 = rect
    x1, x2 = max(0, x1), min(width, x2)
    y1, y2 = max(0, y1), min(height, y2)
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def cut_face(frame: Image, rect: Rect) -> Image:
    """The face of a frame.

    Args:
        frame: uint8 (H, W, 3) BGR.
        rect: inside the frame.

    Returns:
        uint8 (320, 320, 3) BGR: the inner part of the rectangle resized to 328x328, bicubic.
    """
    x1, y1, x2, y2 = rect
    crop = cv2.resize(frame[y1:y2, x1:x2], (CROP, CROP), interpolation=cv2.INTER_CUBIC)
    face: Image = np.ascontiguousarray(crop[BORDER : BORDER + FACE, BORDER : BORDER + FACE])
    return face


def kept_pixels(parsing: Image, rect: Rect) -> Image:
    """Where the original stays: uint8 (h, w), 255 or 0, of a parsing image (H, W, 3) BGR."""
    x1, y1, x2, y2 = rect
    part: npt.NDArray[Any] = parsing[y1:y2, x1:x2]
    kept = np.zeros(part.shape[:2], bool)
    for colour in KEPT_COLOURS:
        kept |= np.all(part == colour, axis=2)
    return np.where(kept, 255, 0).astype(np.uint8)
