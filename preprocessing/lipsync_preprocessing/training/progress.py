"""The course of a training: lines, log.csv and, if it is installed, TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lipsync_preprocessing.training.folder import TrainingFolder

Report = Callable[[str, int, int], None]
"""Called with what is done, the number of parts done, and that of all."""
GREY_LEVELS = 255.0


def named(report: Report, what: str) -> Callable[[int, int], None]:
    """Return a report of one piece of work."""
    return lambda done, total: report(what, done, total)


class Progress:
    """Means of the losses between two looks at the held-out part, and the time that remains.

    Args:
        folder: of the training.
        step: number of steps done.
        say: called with a line at each look.
        judged: the figure by which the held-out part is judged.
    """

    def __init__(
        self,
        folder: TrainingFolder,
        step: int,
        say: Callable[[str], object],
        judged: str = "sync",
    ) -> None:
        self._folder, self._say, self._judged = folder, say, judged
        self._first, self._begun = step, time.monotonic()
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._board = _tensorboard(folder)

    def add(self, terms: dict[str, float]) -> None:
        """Add the losses of a step."""
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def look(self, step: int, total: int, rate: float, held_out: float) -> None:
        """Write the means since the last look."""
        means = {name: self._sums[name] / self._counts[name] for name in self._sums}
        self._sums, self._counts = {}, {}
        row = {"step": float(step), "rate": rate, f"held_out_{self._judged}": held_out}
        names = ("pixels", "gradient", "sync", "perceptual")  # each row has the same columns
        row.update({name: means.get(name, 0.0) for name in names})
        self._folder.log(row)
        if self._board is not None:
            for name, value in row.items():
                self._board.add_scalar(name, value, step)
            self._board.flush()
        left = (time.monotonic() - self._begun) / max(1, step - self._first) * (total - step)
        self._say(
            f"step {step} of {total}: {GREY_LEVELS * means.get('pixels', 0.0):.2f} grey levels, held-out"
            f" {self._judged} {held_out:.3f}; about {left / 60:.0f} min left"
        )

    def close(self) -> None:
        """Close what was opened."""
        if self._board is not None:
            self._board.close()


def _tensorboard(folder: TrainingFolder) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
