"""Samples as a caller gives them, as the session keeps them, and as the frames carry them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import InputError
from .frame import Samples

# Speech pauses where its level (RMS) stays below the floor, or far enough below the loudest block lately.
_FLOOR = 1e-3  # -60 dB
_QUIET = 0.05  # -26 dB
_FADE = 0.5  # per second, of the loudest level


def checked(samples: NDArray[Any], channels: int) -> Samples:
    """Return samples as float32 (n, channels).

    Args:
        samples: float in -1..1 or int16; (n,) or (n, channels).
        channels: number of channels.

    Raises:
        InputError: another type or shape, or a sample that is not finite.
    """
    block = np.asarray(samples)
    if block.ndim == 1 and channels == 1:
        block = block[:, None]
    if block.ndim != 2 or block.shape[1] != channels:
        raise InputError(
            f"samples must be (n, {channels}){' or (n,)' if channels == 1 else ''},"
            f" got {list(np.shape(samples))}"
        )
    if block.dtype == np.int16:
        return block.astype(np.float32) / 32768
    if block.dtype.kind != "f":
        raise InputError(f"samples must be float in -1..1 or int16, got {block.dtype}")
    if not np.isfinite(block).all():
        raise InputError("samples must be finite: one of them is NaN or infinite")
    return block.astype(np.float32)


def mixed(block: Samples, channels: int) -> Samples:
    """Return samples with 1 channel, or with `channels` that repeat the only one."""
    if block.shape[1] == channels:
        return block
    if channels == 1:
        return np.asarray(block.mean(axis=1, keepdims=True), np.float32)
    return np.repeat(block, channels, axis=1)


class Loudness:
    """The loudness of the speech lately, by which its pauses are told."""

    def __init__(self) -> None:
        self._loudest = 0.0

    def note(self, block: Samples, rate: int) -> None:
        """Note samples at `rate` that are played."""
        faded = self._loudest * _FADE ** (len(block) / rate)
        self._loudest = max(_level(block), faded)

    def is_quiet(self, block: Samples) -> bool:
        """Return whether samples are quiet enough for a pause of the speech."""
        return _level(block) < max(_FLOOR, _QUIET * self._loudest)


def _level(block: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(block)))) if block.size else 0.0
