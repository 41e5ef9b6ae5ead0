"""From a frame and its rectangle to the 320x320 face that the generator takes."""

from __future__ import annotations

import cv2
import numpy as np

from lipsync_preprocessing.contract import BORDER, CROP, FACE
from lipsync_preprocessing.dataset.types import Image, Rect


def cut_face(frame: Image, rect: Rect) -> Image:
    """Return the face of a frame.

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
