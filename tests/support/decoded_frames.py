"""How alike two pictures are, and what an access unit holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def assert_same_frames(came: np.ndarray, expected: Sequence[np.ndarray] | np.ndarray) -> None:
    """At most one grey level apart, and 99.9 % of the values equal."""
    assert came.shape == (len(expected), *expected[0].shape)
    difference = np.abs(came.astype(np.int16) - np.stack(list(expected)))
    assert difference.max() <= 1
    assert (difference == 0).mean() >= 0.999


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal to noise, dB, of two uint8 pictures."""
    error = np.mean((a.astype(np.float64) - b) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else 99.0


def nal_types(unit: bytes) -> list[int]:
    """Types of the NAL units of an Annex-B access unit: 7 SPS, 8 PPS, 5 IDR, 1 another slice."""
    parts = unit.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]
    return [part[0] & 31 for part in parts]
