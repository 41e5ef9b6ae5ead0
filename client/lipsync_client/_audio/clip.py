"""A window that moves over the samples of a clip."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


class ClipWindow:
    """The part of a clip that is still needed, read when it is needed.

    Args:
        blocks: the clip's samples, block by block.

    Attributes:
        total: length of the clip in samples; None until its end has been read.
    """

    def __init__(self, blocks: Iterator[Samples]) -> None:
        self._blocks = blocks
        self._samples = np.zeros(0, np.float32)
        self._start = 0
        self.total: int | None = None

    def read_to(self, end: int) -> None:
        """Read until sample `end` has been read, or the clip ends."""
        parts = [self._samples]
        have = self._start + self._samples.size
        while self.total is None and have < end:
            block = next(self._blocks, None)
            if block is None:
                self.total = have
                break
            parts.append(block)
            have += block.size
        if len(parts) > 1:
            self._samples = np.concatenate(parts)

    def slice(self, begin: int, end: int) -> Samples:
        """Return the samples [begin, end), and forget those before `begin`."""
        self._samples = self._samples[begin - self._start :]
        self._start = begin
        return self._samples[: end - begin]
