"""Comparison of frames, and the contents of access units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def assert_same_frames(
    actual: NDArray[Any], expected: Sequence[NDArray[Any]] | NDArray[Any]
) -> None:
    """Assert that frames differ by at most one grey level, and not at all in 99.9 % of the values."""
    assert actual.shape == (len(expected), *expected[0].shape)
    difference = np.abs(actual.astype(np.int16) - np.stack(list(expected)))
    assert difference.max() <= 1
    assert (difference == 0).mean() >= 0.999


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the peak signal-to-noise ratio of two uint8 images in dB; 99 for equal ones."""
    error = np.mean((a.astype(np.float64) - b) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else 99.0


def i420(frame: NDArray[Any]) -> NDArray[Any]:
    """Return a BGR frame in I420, without an odd last row or column: what the H.264 encoder gets."""
    height, width = frame.shape[0] & ~1, frame.shape[1] & ~1
    return np.asarray(cv2.cvtColor(frame[:height, :width], cv2.COLOR_BGR2YUV_I420))


def nal_types(unit: bytes) -> list[int]:
    """Return the types of an access unit's NAL units: 7 SPS, 8 PPS, 5 IDR slice, 1 other slice."""
    parts = unit.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]
    return [part[0] & 31 for part in parts]
