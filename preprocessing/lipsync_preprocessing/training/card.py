"""The card of a trained generator: what it was made of, how long it took, and how good it is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lipsync_preprocessing.training.evaluation import Scores


@dataclass(frozen=True)
class Card:
    """The text that is written beside a checkpoint.

    Attributes:
        dataset, audio_encoder: names of what it was trained with.
        width: of the network, 1 is full.
        frames: number of frames of the training part.
        steps: number of steps taken.
        ended_early: whether held-out sync stopped to improve before the last step.
        seconds: time of the training, all its runs together.
        device, precision: what it ran on.
        perceptual: whether the perceptual loss was used.
        scores: its figures on the held-out part.
    """

    dataset: str
    audio_encoder: str
    width: float
    frames: int
    steps: int
    ended_early: bool
    seconds: float
    device: str
    precision: str
    perceptual: bool
    scores: Scores

    def lines(self) -> list[str]:
        """Return the card as text."""
        early = "; held-out sync did not improve any more" if self.ended_early else ""
        return [
            f"trained on {self.dataset}, {self.frames} frames, with {self.audio_encoder};"
            f" width {self.width:g}",
            f"{self.steps} steps in {self.seconds / 60:.0f} min on {self.device}, {self.precision}{early}",
            *self.scores.lines(),
        ]

    def write(self, checkpoint: Path) -> None:
        """Write NAME.card.json and NAME.card.txt beside a checkpoint NAME.pth."""
        checkpoint.with_suffix(".card.json").write_text(json.dumps(asdict(self), indent=1) + "\n")
        checkpoint.with_suffix(".card.txt").write_text("\n".join(self.lines()) + "\n")
