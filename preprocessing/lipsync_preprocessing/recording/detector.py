"""Finding faces in a frame: MediaPipe's BlazeFace, run by OpenCV.

The networks are single-shot detectors. Each anchor, a point on a grid, yields a score, a box and six key
points relative to itself. (Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face Detection on Mobile
GPUs",
2019; the anchors are those of MediaPipe's ssd_anchors_calculator.)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from lipsync_preprocessing.dataset.types import Image
from lipsync_preprocessing.recording.face_models import FAR_DETECTOR, NEAR_DETECTOR

Floats = npt.NDArray[np.float64]

_KEY_POINTS = 6
_LEAST_SCORE = 0.5
_OVERLAP = 0.3  # boxes that share more of their union are one face


@dataclass(frozen=True)
class FaceBox:
    """A face that the detector found.

    Attributes:
        score: 0.5…1.
        centre: x, y in pixels.
        side: the larger side of the box, pixels.
        roll: angle of the line between the eyes, radians; positive is clockwise in the image.
    """

    score: float
    centre: tuple[float, float]
    side: float
    roll: float


@dataclass(frozen=True)
class _Network:
    file: str
    size: int
    outputs: tuple[str, str]  # boxes, scores
    grids: tuple[tuple[int, int], ...]  # stride in pixels, anchors a cell


# For faces within two metres of the camera, and for smaller ones.
_NEAR = _Network(NEAR_DETECTOR, 128, ("regressors", "classificators"), ((8, 2), (16, 6)))
_FAR = _Network(
    FAR_DETECTOR, 192, ("reshaped_regressor_face_4", "reshaped_classifier_face_4"), ((4, 1),)
)


class FaceDetector:
    """The detector for near faces and, where that finds none, the one for far faces."""

    def __init__(self, models: Path) -> None:
        self._networks = [
            (kind, cv2.dnn.readNetFromTFLite(str(models / kind.file)), _anchors(kind))
            for kind in (_NEAR, _FAR)
        ]

    def detect(self, image: Image) -> list[FaceBox]:
        """Return the faces of an image, uint8 (H, W, 3) BGR, the one with the highest score first."""
        for kind, network, anchors in self._networks:
            faces = _run(kind, network, anchors, image)
            if faces:
                return faces
        return []


def _anchors(network: _Network) -> Floats:
    """Return the anchors' places, float64 [n, 2], as parts of the input's side."""
    grids = []
    for stride, repeats in network.grids:
        cells = network.size // stride
        places = (np.arange(cells) + 0.5) / cells
        y, x = np.meshgrid(places, places, indexing="ij")
        grids.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), repeats, axis=0))
    return np.concatenate(grids)


def _run(kind: _Network, network: cv2.dnn.Net, anchors: Floats, image: Image) -> list[FaceBox]:
    height, width = image.shape[:2]
    scale = kind.size / max(height, width)
    shift = (kind.size - width * scale) / 2, (kind.size - height * scale) / 2
    small = cv2.resize(
        image,
        (max(1, round(width * scale)), max(1, round(height * scale))),
        interpolation=cv2.INTER_AREA,
    )
    square = np.zeros((kind.size, kind.size, 3), np.uint8)
    left, top = (kind.size - small.shape[1]) // 2, (kind.size - small.shape[0]) // 2
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    network.setInput(to_blob(square))
    raw, logits = network.forward(list(kind.outputs))
    scores = 1 / (1 + np.exp(-np.clip(logits.reshape(-1).astype(np.float64), -80, 80)))
    found = np.flatnonzero(scores > _LEAST_SCORE)
    values = raw.reshape(-1, 2 + _KEY_POINTS, 2)[found].astype(np.float64) / kind.size
    values[:, 0] += anchors[found]  # the second pair is the box's size
    values[:, 2:] += anchors[found][:, None]
    pixels = values * kind.size / scale
    pixels[:, [0, *range(2, 2 + _KEY_POINTS)]] -= np.array(shift) / scale
    boxes = []
    for group in _groups(pixels, scores[found]):
        # MediaPipe's weighted suppression: the mean of all boxes of a face is steadier than its best.
        mean = np.average(pixels[group], axis=0, weights=scores[found][group])
        eyes = mean[3] - mean[2]
        boxes.append(
            FaceBox(
                float(scores[found][group].max()),
                (float(mean[0, 0]), float(mean[0, 1])),
                float(mean[1].max()),
                float(np.arctan2(eyes[1], eyes[0])),
            )
        )
    return boxes


def _groups(boxes: Floats, scores: Floats) -> list[list[int]]:
    """Return the boxes of each face, by overlap with its best one; the best face comes first."""
    rest = [int(k) for k in np.argsort(-scores)]
    groups = []
    while rest:
        group = [k for k in rest if _overlap(boxes[rest[0]], boxes[k]) > _OVERLAP]
        groups.append(group)
        rest = [k for k in rest if k not in group]
    return groups


def _overlap(a: Floats, b: Floats) -> float:
    """Return the intersection over the union of two boxes."""
    low = np.maximum(a[0] - a[1] / 2, b[0] - b[1] / 2)
    high = np.minimum(a[0] + a[1] / 2, b[0] + b[1] / 2)
    common = float(np.prod(np.maximum(0, high - low)))
    union = float(np.prod(a[1]) + np.prod(b[1])) - common
    return 1.0 if a is b else common / max(union, 1e-9)


def to_blob(square: Image) -> npt.NDArray[np.float32]:
    """Return a network's input, float32 [1, 3, side, side] RGB in -1…1, of uint8 (side, side, 3) BGR."""
    side = square.shape[0]
    blob = cv2.dnn.blobFromImage(square, 1 / 127.5, (side, side), (127.5, 127.5, 127.5), True)
    return np.asarray(blob, np.float32)
