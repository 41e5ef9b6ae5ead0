"""The mouth's opening in the frames of an avatar, whatever it looks like."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from numpy.typing import NDArray

from lipsync_client import LipSyncClient, RenderOptions
from lipsync_client.protocol import SAMPLE_RATE

from .curves import Curve, loudness

SIDE = 48  # pixels: every crop is measured at this size
_MOVES = 0.25  # of the largest mean difference: a pixel that differs more belongs to the mouth
Grey = NDArray[np.uint8]  # (n, SIDE, SIDE)


@dataclass(frozen=True)
class Mouth:
    """A clip as the server renders it offline, and what a peer's frames are compared with.

    The opening is the mean difference, in grey levels, of the mouth's region to a silent render at the same
    place of the loop.

    Attributes:
        box: x, y, width and height of the mouth's region in a frame, pixels.
        closed: uint8 (places, SIDE, SIDE), the region with the mouth closed, at each place of the loop.
        opening: float64 (frames,) of the clip.
        loud: float64, loudness of each 10 ms of the clip.
    """

    box: tuple[int, int, int, int]
    closed: Grey
    opening: Curve
    loud: Curve

    def openings(self, crops: Grey, places: NDArray[np.int64]) -> Curve:
        """Return the opening in a peer's crops.

        Args:
            crops: uint8 (n, SIDE, SIDE).
            places: number of each frame, from any beginning: the place of the loop is found by the images.
        """
        some = np.linspace(0, len(crops) - 1, 50).astype(int)
        period = len(self.closed)
        errors = [
            np.abs(crops[some].astype(int) - self.closed[(places[some] + first) % period]).mean()
            for first in range(period)
        ]
        closed = self.closed[(places + int(np.argmin(errors))) % period]
        return np.asarray(np.abs(crops.astype(int) - closed).mean(axis=(1, 2)), np.float64)

    def opening_of(self, crop: NDArray[np.uint8]) -> float:
        """Return the opening in one crop, at the place of the loop that it resembles most."""
        return float(np.abs(self.closed.astype(np.int16) - crop).mean(axis=(1, 2)).min())

    @property
    def speaking(self) -> float:
        """Return the opening from which on a mouth counts as speaking."""
        return float(0.25 * self.opening.max())


def crop_of(frame: NDArray[np.uint8], box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Return the region of a grey frame, uint8 (SIDE, SIDE)."""
    x, y, width, height = box
    region = frame[y : y + height, x : x + width]
    return np.asarray(cv2.resize(region, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def render_mouth(
    url: str,
    avatar: str,
    samples: NDArray[np.float32],
    box: tuple[int, int, int, int] | None = None,
) -> Mouth:
    """Render a clip, and silence, offline.

    Args:
        samples: float32 (n,) at 16 kHz; a few seconds, since all frames are kept.
        box: of the mouth; None to find it by what moves.
    """
    with LipSyncClient(url) as client:
        period = 2 * (client.avatar(avatar).frames - 1)
        spoken = _grey(client, avatar, samples)
        silent = _grey(client, avatar, np.zeros(640 * (max(period, len(spoken)) + 4), np.float32))
    places = np.arange(len(spoken))
    box = box or _moving(spoken, silent)
    closed = np.stack([crop_of(frame, box) for frame in silent[:period]])
    crops = np.stack([crop_of(frame, box) for frame in spoken])
    opening = np.abs(crops.astype(int) - closed[places % period]).mean(axis=(1, 2))
    return Mouth(box, closed, opening, loudness(samples, SAMPLE_RATE))


def _moving(spoken: list[Grey], silent: list[Grey]) -> tuple[int, int, int, int]:
    """Return the region in which two renders differ: x, y, width, height."""
    moved = np.zeros(spoken[0].shape)
    for frame, quiet in zip(spoken, silent, strict=False):
        moved += np.abs(frame.astype(int) - quiet)
    rows, columns = np.nonzero(moved > _MOVES * moved.max())
    x, y = int(columns.min()), int(rows.min())
    return x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y


def _grey(client: LipSyncClient, avatar: str, samples: NDArray[np.float32]) -> list[Grey]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clip.wav"
        write_wav(path, samples)
        options = RenderOptions(output="I420")
        frames = []
        for chunk in client.render(path, avatar, options):
            for planes in chunk.frames:
                frames.append(
                    np.array(planes[: len(planes) * 2 // 3])
                )  # the first plane is the grey
        return frames


def write_wav(path: Path, samples: NDArray[np.float32], rate: int = SAMPLE_RATE) -> None:
    """Write mono samples, float32 in -1..1, as 16-bit PCM."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
