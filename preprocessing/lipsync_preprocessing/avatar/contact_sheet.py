"""An image of what an avatar is made of: frames with rectangles and masks, faces, masked faces."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from lipsync_preprocessing.avatar.faces import cut_face
from lipsync_preprocessing.avatar.pack import read_pack
from lipsync_preprocessing.contract import MASK_COLUMNS, MASK_ROWS
from lipsync_preprocessing.dataset.types import Frame, Image
from lipsync_preprocessing.errors import RepositoryError
from lipsync_preprocessing.repository import Repository

ROW_HEIGHT = 240  # pixels
MARGIN = 8
_GREEN, _RED, _WHITE = (0, 255, 0), (0, 0, 255), (255, 255, 255)


def contact_sheet(repository: str | Path, name: str, rows: int = 8) -> Image:
    """Return one row for each of `rows` frames, spread evenly over the loop: uint8 (H, W, 3) BGR.

    A row shows the frame (its rectangle green, its kept pixels red), the face, and the masked face.
    """
    store = Repository(repository)
    avatar = store.avatar(name)
    if rows < 1:
        raise RepositoryError(f"contact sheet: expected at least one row, got {rows}")
    chosen = set(
        np.linspace(0, max(avatar.frames - 1, 0), min(rows, avatar.frames or 1), dtype=int)
    )
    frames = enumerate(read_pack(store.pack(name)))
    strips = [_row(k, frame) for k, frame in frames if k in chosen]
    gap = np.full((MARGIN, strips[0].shape[1], 3), 32, np.uint8)
    sheet: Image = np.vstack([part for strip in strips for part in (strip, gap)][:-1])
    return sheet


def _row(number: int, frame: Frame) -> Image:
    x1, y1, x2, y2 = frame.rect
    drawn = frame.image.copy()
    if frame.mask is not None:
        region = drawn[y1:y2, x1:x2]
        region[frame.mask != 0] = (region[frame.mask != 0] // 2 + np.array(_RED) // 2).astype("u1")
    height, width = drawn.shape[:2]
    scale = ROW_HEIGHT / height
    drawn = cv2.resize(drawn, (round(width * scale), ROW_HEIGHT), interpolation=cv2.INTER_AREA)
    corners = [(round(x * scale), round(y * scale)) for x, y in ((x1, y1), (x2 - 1, y2 - 1))]
    cv2.rectangle(drawn, corners[0], corners[1], _GREEN, 1)
    label = f"frame {number}  {list(frame.rect)}"
    cv2.putText(drawn, label, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(drawn, label, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _WHITE, 1, cv2.LINE_AA)
    face = cut_face(frame.image, frame.rect)
    masked = face.copy()
    masked[MASK_ROWS, MASK_COLUMNS] = 0
    gap = np.full((ROW_HEIGHT, MARGIN, 3), 32, np.uint8)
    small = [
        cv2.resize(f, (ROW_HEIGHT, ROW_HEIGHT), interpolation=cv2.INTER_AREA)
        for f in (face, masked)
    ]
    strip: Image = np.hstack([drawn, gap, small[0], gap, small[1]])
    return strip
