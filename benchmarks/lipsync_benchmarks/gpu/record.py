"""The figures of one section, written to disk after each one, so that they survive a crash or a kill."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from .network import Provider
from .timing import Figures


@dataclass(frozen=True)
class GpuOptions:
    """The options of one run.

    Attributes:
        frames: number of frames of the clip.
        batches: frames per call of the network.
        clips: numbers of clips that the service renders at once.
        width: of the network; 1 is the true size.
        cudnn_search: the way in which cuDNN chooses its algorithms.
        budget_s: time for all sections together.
    """

    provider: Provider
    frames: int
    batches: tuple[int, ...]
    clips: tuple[int, ...]
    width: float
    cudnn_search: str
    budget_s: float


class SectionRecord:
    """A section's status and figures.

    Args:
        path: the JSON file.
        deadline: on the clock of time.monotonic(), which all processes of a Linux share.
    """

    def __init__(self, path: Path, deadline: float) -> None:
        self.report: Figures = {"status": "failed", "reason": "its process died", "figures": {}}
        self._path, self._deadline = path, deadline

    @property
    def is_late(self) -> bool:
        return time.monotonic() > self._deadline

    def set(self, **figures: object) -> None:
        """Set figures by name."""
        self.report["figures"] |= figures
        self._write()

    def add(self, key: str, row: Figures) -> None:
        """Append a row to a list of figures."""
        self.report["figures"].setdefault(key, []).append(row)
        self._write()

    def finish(self, status: str, reason: str | None = None) -> None:
        """Set the status: done, failed or skipped."""
        self.report |= {"status": status, "reason": reason}
        self._write()

    def _write(self) -> None:
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(self.report))
        partial.replace(self._path)
