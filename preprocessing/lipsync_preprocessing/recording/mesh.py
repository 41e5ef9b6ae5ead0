"""The face mesh: 468 points of a face, MediaPipe's network, run by OpenCV.

(Kartynnik et al., "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs", 2019.)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from lipsync_preprocessing.dataset.types import Image
from lipsync_preprocessing.recording.detector import FaceBox, to_blob
from lipsync_preprocessing.recording.face_models import MESH

Points = npt.NDArray[np.float32]
"""Mesh points [468, 3]: x and y in pixels of the frame, z in the same unit, smaller is nearer."""

COUNT = 468
UPPER_LIP, LOWER_LIP = 13, 14  # the inner edges, in the middle
LIPS = (61, 291, 0, 17)  # corners, and the outer edges in the middle
NOSE_TIP = 4
LEFT_EYE, RIGHT_EYE = (33, 133), (362, 263)  # corners
_SIZE = 192  # pixels, the network's input
_MARGIN = 1.5  # of the face's own size, as in its training


@dataclass(frozen=True)
class Mesh:
    """A face's points, and the network's certainty that there is a face, 0…1."""

    points: Points
    certainty: float


class FaceMesh:
    """The network, applied to an upright square about a face."""

    def __init__(self, models: Path) -> None:
        self._network = cv2.dnn.readNetFromTFLite(str(models / MESH))

    def fit(self, image: Image, near: FaceBox) -> Mesh:
        """Return the points of the face near a box, in an image uint8 (H, W, 3) BGR."""
        scale = _SIZE / (_MARGIN * near.side)
        cos, sin = scale * np.cos(near.roll), scale * np.sin(near.roll)
        x, y = near.centre
        half = _SIZE / 2
        into = np.array(
            [[cos, sin, half - cos * x - sin * y], [-sin, cos, half + sin * x - cos * y]]
        )
        # In large frames a step in the square skips pixels: shrink first, or the points tremble.
        flags = cv2.INTER_LINEAR if scale > 0.7 else cv2.INTER_AREA
        square = _warp(image, into, flags)
        self._network.setInput(to_blob(square))
        outputs = self._network.forward(self._network.getUnconnectedOutLayersNames())
        flat = max(outputs, key=lambda output: output.size).reshape(COUNT, 3)
        logit = float(min(outputs, key=lambda output: output.size).reshape(-1)[0])
        back = cv2.invertAffineTransform(into)
        points = np.empty((COUNT, 3), np.float32)
        points[:, :2] = flat[:, :2] @ back[:, :2].T + back[:, 2]
        points[:, 2] = flat[:, 2] / scale
        return Mesh(points, float(1 / (1 + np.exp(-np.clip(logit, -80, 80)))))


def _warp(image: Image, into: npt.NDArray[np.float64], flags: int) -> Image:
    """Return the square (192, 192, 3) that an affine map gives; an area filter for large steps."""
    scale = float(np.hypot(into[0, 0], into[0, 1]))
    if flags != cv2.INTER_AREA:
        return np.asarray(cv2.warpAffine(image, into, (_SIZE, _SIZE), flags=flags), np.uint8)
    times = min(8, max(2, round(1 / scale)))
    larger = np.asarray(into) * times
    wide = cv2.warpAffine(image, larger, (_SIZE * times, _SIZE * times), flags=cv2.INTER_LINEAR)
    return np.asarray(cv2.resize(wide, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA), np.uint8)


def box_of(points: Points) -> FaceBox:
    """Return the box about a face's points; the mesh of the next frame is fitted near it."""
    flat = points[:, :2].astype(np.float64)
    eyes = flat[list(RIGHT_EYE)].mean(0) - flat[list(LEFT_EYE)].mean(0)
    roll = float(np.arctan2(eyes[1], eyes[0]))
    turn = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    upright = flat @ turn.T
    low, high = upright.min(0), upright.max(0)
    centre = turn.T @ ((low + high) / 2)
    return FaceBox(1.0, (float(centre[0]), float(centre[1])), float((high - low).max()), roll)


def opening(points: Points) -> float:
    """Return the gap between the lips as a part of the distance between the eyes.

    The measure does not depend on the distance from the camera, and hardly on a turn of the head.
    """
    gap = float(np.linalg.norm(points[LOWER_LIP] - points[UPPER_LIP]))
    eyes = points[list(RIGHT_EYE)].mean(0) - points[list(LEFT_EYE)].mean(0)
    return gap / max(float(np.linalg.norm(eyes)), 1e-6)


def yaw_degrees(points: Points) -> float:
    """Return how far the head is turned to the side, in degrees; 0 looks into the camera."""
    across = points[454] - points[234]  # from cheek to cheek
    return float(np.degrees(np.arctan2(across[2], np.hypot(across[0], across[1]))))
