"""A stretch of an endless line of samples."""

from __future__ import annotations

import numpy as np

from .frame import Samples


class Line:
    """Samples of an endless line, of which a part is kept; all others are silence.

    It grows at its end, and is let go at its start.

    Args:
        channels: of a sample.
        memory: number of samples that are kept at least when silence follows.

    Attributes:
        start: position of the first sample that is kept.
    """

    def __init__(self, channels: int, memory: int) -> None:
        self._data: Samples = np.zeros((memory, channels), np.float32)
        self._memory = memory
        self.start = self._size = 0

    @property
    def end(self) -> int:
        """Position after the last sample that is kept."""
        return self.start + self._size

    def append(self, block: Samples) -> None:
        """Add samples, (n, channels), at the end."""
        size = self._size + len(block)
        if size > len(self._data):
            grown = np.zeros((2 * size, self._data.shape[1]), np.float32)
            grown[: self._size] = self._data[: self._size]
            self._data = grown
        self._data[self._size : size] = block
        self._size = size

    def append_silence(self, count: int) -> None:
        """Add `count` silent samples at the end."""
        self.append(np.zeros((count, self._data.shape[1]), np.float32))

    def extend_to(self, end: int) -> None:
        """Add silence up to a position; what lies far before it is dropped."""
        if end - self.end > self._memory:
            self.start, self._size = end, 0
        else:
            self.append_silence(max(0, end - self.end))

    def truncate(self, end: int) -> None:
        """Drop what lies from a position on."""
        self._size = min(self._size, max(0, end - self.start))

    def drop_before(self, begin: int) -> None:
        """Drop what lies before a position, not always all of it."""
        if (old := begin - self.start) > self._memory:
            kept = self._data[old : self._size].copy()
            self._data = np.zeros((max(self._memory, len(kept)), self._data.shape[1]), np.float32)
            self._data[: len(kept)] = kept
            self.start, self._size = begin, len(kept)

    def between(self, begin: int, end: int) -> Samples:
        """Return a copy of the samples [begin, end), (n, channels)."""
        block = np.zeros((end - begin, self._data.shape[1]), np.float32)
        first, stop = max(begin, self.start), min(end, self.end)
        if first < stop:
            block[first - begin : stop - begin] = self._data[first - self.start : stop - self.start]
        return block
