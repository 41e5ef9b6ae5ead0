"""Following one face through a recording."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from lipsync_preprocessing.dataset.types import Image
from lipsync_preprocessing.recording.detector import FaceBox, FaceDetector
from lipsync_preprocessing.recording.mesh import FaceMesh, Mesh, Points, box_of

THUMBNAIL = 32  # pixels, the side of the lower face that is kept of every frame
_LEAST_CERTAINTY = 0.5
_OTHER_FACE = 0.4  # of the followed face's size: smaller faces are in the background
_SHARPNESS_SIDE = 160  # pixels


@dataclass(frozen=True)
class Sighting:
    """The face as one frame shows it.

    Attributes:
        points: of the mesh; None if the face is lost.
        others: number of other faces that are about as large.
        sharpness: variance of the Laplacian of the face at 160 pixels, divided by its contrast's.
        lower_face: float32 (32, 32), grey levels of the lower half, mean 0.
    """

    points: Points | None
    others: int = 0
    sharpness: float = 0.0
    lower_face: npt.NDArray[np.float32] | None = None


class FaceTracker:
    """The detector and the mesh, frame by frame; the mesh is fitted near that of the frame before."""

    def __init__(self, models: Path) -> None:
        self._detector, self._mesh = FaceDetector(models), FaceMesh(models)
        self._last: FaceBox | None = None

    def see(self, image: Image) -> Sighting:
        """Return what the next frame, uint8 (H, W, 3) BGR, shows of the face that is followed."""
        found = self._detector.detect(image)
        face = _same(found, self._last)
        mesh = self._fit(image, face)
        self._last = None
        if mesh is None:
            return Sighting(None)
        self._last = box_of(mesh.points)
        others = sum(f is not face and f.side > _OTHER_FACE * self._last.side for f in found)
        grey = _face(image, self._last)
        return Sighting(mesh.points, others, _sharpness(grey), _lower_half(grey))

    def _fit(self, image: Image, face: FaceBox | None) -> Mesh | None:
        """Return the mesh near that of the frame before or, if that is gone, near the detector's face.

        The detector may miss a face that is followed, small or half covered: the mesh is certain by itself.
        """
        if self._last is not None:
            mesh = self._mesh.fit(image, self._last)
            fits = face is None or not _apart(box_of(mesh.points), face)
            if mesh.certainty >= _LEAST_CERTAINTY and fits:
                return mesh
        if face is None:
            return None
        # The detector's box is coarse: a second fit near the first one's points is steadier.
        first = self._mesh.fit(image, face)
        mesh = self._mesh.fit(image, box_of(first.points))
        return mesh if mesh.certainty >= _LEAST_CERTAINTY else None


def _same(found: list[FaceBox], last: FaceBox | None) -> FaceBox | None:
    """Return the face that was followed, or the largest if none was."""
    if last is None:
        return max(found, key=lambda face: face.side, default=None)
    near = [face for face in found if not _apart(last, face)]
    return min(near, key=lambda face: _distance(face, last), default=None)


def _distance(a: FaceBox, b: FaceBox) -> float:
    return float(np.hypot(a.centre[0] - b.centre[0], a.centre[1] - b.centre[1]))


def _apart(a: FaceBox, b: FaceBox) -> bool:
    return _distance(a, b) > 0.6 * max(a.side, b.side) or not 0.5 < a.side / b.side < 2


def _face(image: Image, box: FaceBox) -> Image:
    """Return the face upright and in grey: uint8 (160, 160)."""
    side = _SHARPNESS_SIDE
    scale = side / (1.1 * box.side)
    cos, sin = scale * np.cos(box.roll), scale * np.sin(box.roll)
    x, y = box.centre
    into = np.array(
        [[cos, sin, side / 2 - cos * x - sin * y], [-sin, cos, side / 2 + sin * x - cos * y]]
    )
    square = cv2.warpAffine(image, into, (side, side), flags=cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(square, cv2.COLOR_BGR2GRAY), np.uint8)


def _sharpness(grey: Image) -> float:
    values = grey.astype(np.float32)
    contrast = float(values.var())
    return float(cv2.Laplacian(values, cv2.CV_32F).var()) / max(contrast, 1.0)


def _lower_half(grey: Image) -> npt.NDArray[np.float32]:
    lower = grey[_SHARPNESS_SIDE // 2 :]
    small = cv2.resize(lower, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    values = small.astype(np.float32)
    return np.asarray(values - values.mean(), np.float32)
