"""From samples at any rate to 16 kHz."""

from __future__ import annotations

import math

import numpy as np
import soxr

from ..protocol import SAMPLE_RATE
from .clip import Samples


class Resampler:
    """A resampler of mono blocks to 16 kHz: soxr HQ, ceil(samples * 16000 / rate) samples in all.

    Args:
        rate: sample rate of the blocks in Hz.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._taken = self._returned = 0
        self._stream = None
        if rate != SAMPLE_RATE:
            self._stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")

    def push(self, block: Samples) -> Samples:
        """Take a block, float32 (n,), and return the samples that are ready."""
        self._taken += block.size
        ready: Samples = block if self._stream is None else self._stream.resample_chunk(block)
        self._returned += ready.size
        return ready

    def flush(self) -> Samples:
        """Return the last samples."""
        rest = np.zeros(0, np.float32)
        if self._stream is not None:
            rest = self._stream.resample_chunk(rest, last=True)
        missing = max(0, math.ceil(self._taken * (SAMPLE_RATE / self.rate)) - self._returned)
        return np.pad(rest[:missing], (0, max(0, missing - rest.size)))
