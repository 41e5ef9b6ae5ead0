"""The measurements of a recording, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from lipsync_preprocessing.contract import FRAME_RATE
from lipsync_preprocessing.recording.audio import SAMPLE_RATE, Samples
from lipsync_preprocessing.recording.mesh import COUNT, LIPS, opening, yaw_degrees
from lipsync_preprocessing.recording.square import rectangles, smoothed, squares
from lipsync_preprocessing.recording.tracker import THUMBNAIL, Sighting
from lipsync_preprocessing.recording.video import Held

_FRAME_SAMPLES = SAMPLE_RATE // FRAME_RATE
_SILENCE_DB = -100.0
_CLOSED = 0.04  # of the distance between the eyes: the mesh's gap between closed lips is below


@dataclass
class Track:
    """A face through a recording.

    Attributes:
        size: width and height of the frames, pixels.
        sightings: of every frame.
        level: float64 [N], dB of full scale of the audio in each frame.
        audio_s: length of the audio.
        held: times without new frames.
    """

    size: tuple[int, int]
    sightings: Sequence[Sighting]
    level: npt.NDArray[np.float64]
    audio_s: float
    held: Sequence[Held] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sightings)

    @cached_property
    def points(self) -> npt.NDArray[np.float32]:
        """Mesh points float32 [N, 468, 3]; NaN where the face is lost."""
        lost = np.full((COUNT, 3), np.nan, np.float32)
        return np.stack([lost if s.points is None else s.points for s in self.sightings])

    @cached_property
    def found(self) -> npt.NDArray[np.bool_]:
        """Frames in which the face was found, bool [N]."""
        return np.asarray(np.isfinite(self.points[:, 0, 0]))

    @cached_property
    def raw(self) -> npt.NDArray[np.float64]:
        """The face squares as measured: float64 [N, 3], middle x, top y, side."""
        return squares(self.points)

    @cached_property
    def square(self) -> npt.NDArray[np.float64]:
        """The face squares, smoothed."""
        return smoothed(self.raw)

    @cached_property
    def rects(self) -> list[tuple[int, int, int, int]]:
        """The face rectangles, in whole pixels."""
        return rectangles(self.square)

    @cached_property
    def opening(self) -> npt.NDArray[np.float64]:
        """The gap between the lips as a part of the distance between the eyes, float64 [N]."""
        return self._filled(
            [0.0 if s.points is None else opening(s.points) for s in self.sightings]
        )

    @cached_property
    def yaw(self) -> npt.NDArray[np.float64]:
        """The turn of the head to the side, degrees, float64 [N]."""
        measured = [0.0 if s.points is None else yaw_degrees(s.points) for s in self.sightings]
        return self._filled(measured)

    @cached_property
    def sharpness(self) -> npt.NDArray[np.float64]:
        """See `Sighting`, float64 [N]."""
        return self._filled([s.sharpness for s in self.sightings])

    @cached_property
    def lower_faces(self) -> npt.NDArray[np.float32]:
        """The lower halves of the found faces, float32 [found, 32, 32]; see `Sighting`."""
        none = np.zeros((0, THUMBNAIL, THUMBNAIL), np.float32)
        seen = [s.lower_face for s in self.sightings if s.lower_face is not None]
        return np.stack(seen) if seen else none

    @cached_property
    def closed(self) -> npt.NDArray[np.bool_]:
        """Frames in which the mouth is closed, bool [N]."""
        low, high = np.percentile(self.opening, [5, 95])
        return np.asarray(self.opening < max(_CLOSED, low + 0.15 * (high - low)))

    @cached_property
    def quiet(self) -> npt.NDArray[np.bool_]:
        """Frames in which nobody speaks, bool [N]: the level is near that of the recording's pauses."""
        floor, speech = np.percentile(self.level, [5, 95])
        limit = floor + 0.3 * (speech - floor) if speech - floor > 12 else _SILENCE_DB
        return self.level < limit

    def mouth_centre(self) -> tuple[float, float]:
        """Return the mouth's usual place in the face square, as parts of its side."""
        lips = np.nanmean(self.points[:, list(LIPS), :2], axis=1)
        x1 = self.square[:, 0] - self.square[:, 2] / 2
        parts = (lips - np.stack([x1, self.square[:, 1]], 1)) / self.square[:, 2:]
        x, y = np.nanmedian(parts, axis=0)
        return float(x), float(y)

    def _filled(self, values: Sequence[float]) -> npt.NDArray[np.float64]:
        known = np.flatnonzero(self.found)
        if not len(known):
            return np.zeros(len(values))
        return np.interp(np.arange(len(values)), known, np.array(values)[known])


def levels(samples: Samples, frames: int) -> npt.NDArray[np.float64]:
    """Return the level of the audio in each frame, dB of full scale, float64 [frames]."""
    padded = np.zeros(frames * _FRAME_SAMPLES, np.float64)
    count = min(len(samples), len(padded))
    padded[:count] = samples[:count]
    power = (padded.reshape(frames, _FRAME_SAMPLES) ** 2).mean(1)
    return np.asarray(10 * np.log10(np.maximum(power, 10 ** (_SILENCE_DB / 10))))
