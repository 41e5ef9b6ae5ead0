"""A picture of what an avatar is made of: frames with rectangles and masks, faces, what is hidden."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from lipsync_preprocessing.compile import MASK_X, MASK_Y
from lipsync_preprocessing.dataset import Frame
from lipsync_preprocessing.errors import RepositoryError
from lipsync_preprocessing.faces import Image, cut_face
from lipsync_preprocessing.pack import read_pack
from lipsync_preprocessing.repository import COMPOSITOR, PACK, Repository

ROW_HEIGHT = 240  # pixels
MARGIN = 8
_GREEN, _RED, _WHITE = (0, 255, 0), (0, 0, 255), (255, 255, 255)


def contact_sheet(repository: str | Path, name: str, rows: int = 8) -> Image:
    """One row for each of `rows` frames, evenly over the loop.

    In a row: the frame (rectangle green, kept pixels red), the face, the face as the generator
    is shown it. uint8 (H, W, 3) BGR.
    """
    store = Repository(repository)
    avatar = store.avatar(name)
    if rows < 1:
        raise RepositoryError(f"contact sheet: expected at least one row, got {rows}")
    chosen = set(
        np.linspace(0, max(avatar.frames - 1, 0), min(rows, avatar.frames or 1), dtype=int)
    )
    pack = store.directory(name + COMPOSITOR) / "1" / PACK
    strips = [_row(k, frame) for k, frame in enumerate(read_pack(pack)) if k in chosen]
    gap = np.full((MARGIN, strips[0].shape[1], 3), 32, np.uint8)
    sheet: Image = np.vstack([part for strip in strips for part in (strip, gap)][:-1])
    return sheet


def _row(number: int, frame: Frame) -> Image:
    x1, y1, x2, y2 = frame.rect
    picture = frame.image.copy()
    if frame.mask is not None:
        region = picture[y1:y2, x1:x2]
        region[frame.mask != 0] = (region[frame.mask != 0] // 2 + np.array(_RED) // 2).astype("u1")
    height, width = picture.shape[:2]
    scale = ROW_HEIGHT / height
    picture = cv2.resize(picture, (round(width * scale), ROW_HEIGHT), interpolation=cv2.INTER_AREA)
    corners = [(round(x * scale), round(y * scale)) for x, y in ((x1, y1), (x2 - 1, y2 - 1))]
    cv2.rectangle(picture, corners[0], corners[1], _GREEN, 1)
    label = f"frame {number}  {list(frame.rect)}"
    cv2.putText(picture, label, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(picture, label, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _WHITE, 1, cv2.LINE_AA)
    face = cut_face(frame.image, frame.rect)
    shown = face.copy()
    shown[MASK_Y, MASK_X] = 0
    gap = np.full((ROW_HEIGHT, MARGIN, 3), 32, np.uint8)
    small = [
        cv2.resize(f, (ROW_HEIGHT, ROW_HEIGHT), interpolation=cv2.INTER_AREA) for f in (face, shown)
    ]
    strip: Image = np.hstack([picture, gap, small[0], gap, small[1]])
    return strip
