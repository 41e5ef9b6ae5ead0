"""The folder of a training: what it goes on from, its log, its samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from lipsync_preprocessing.errors import TrainingError
from lipsync_preprocessing.training.evaluation import to_images

FACES, STATE, SYNC, LOG, SAMPLES, INPUTS = (
    "faces.npy", "state.pt", "sync.pt", "log.csv", "samples.png", "inputs.json",
)  # fmt: skip
_ADVICE = "remove the folder to begin anew"


class TrainingFolder:
    """A folder beside the checkpoint, from which an interrupted training goes on."""

    def __init__(self, path: Path, inputs: dict[str, Any], *, resume: bool) -> None:
        """Open the folder.

        Args:
            path: the folder; it is made if it is missing.
            inputs: what the training depends on; it goes on only with the same.
            resume: go on from what is there.

        Raises:
            TrainingError: there is a training already, or one with other inputs.
        """
        self.path = path
        known = path / INPUTS
        inputs = json.loads(json.dumps(inputs))
        if known.is_file():
            if not resume:
                raise TrainingError(
                    f"{path}: a training was begun here; --resume goes on with it, or {_ADVICE}"
                )
            before = json.loads(known.read_text())
            other = [name for name in inputs if before.get(name) != inputs[name]]
            if other:
                name = other[0]
                raise TrainingError(
                    f"{path}: expected the {name} of the training that was begun, {before.get(name)}, got"
                    f" {inputs[name]}; give the same, or {_ADVICE}"
                )
            return
        try:
            path.mkdir(parents=True, exist_ok=True)
            known.write_text(json.dumps(inputs, indent=1))
        except OSError as error:
            raise TrainingError(f"{path}: cannot be written: {error.strerror}") from error

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Write a state; a file that is there stays whole until the new one is."""
        scratch = self.path / f"{name}.partial"
        torch.save(state, scratch)
        scratch.replace(self.path / name)

    def load(self, name: str, device: torch.device) -> dict[str, Any] | None:
        """Return a state, or None if there is none."""
        if not (self.path / name).is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path / name, device, weights_only=True)
        except Exception as error:  # torch raises many types for a damaged file
            raise TrainingError(f"{self.path / name}: cannot be read; {_ADVICE}") from error
        return state

    def log(self, row: dict[str, float]) -> None:
        """Add a row to log.csv; rows of steps that are taken again, after an interruption, are replaced."""
        path = self.path / LOG
        lines = path.read_text().splitlines() if path.is_file() else [",".join(row)]
        kept = [lines[0], *(x for x in lines[1:] if float(x.split(",")[0]) < row["step"])]
        path.write_text("\n".join([*kept, ",".join(f"{v:g}" for v in row.values())]) + "\n")

    def show(self, inputs: Tensor, output: Tensor, targets: Tensor) -> None:
        """Write samples.png: rows of the other face, the output and the face that was wanted."""
        save_samples(self.path / SAMPLES, inputs, output, targets)


def save_samples(path: Path, inputs: Tensor, output: Tensor, targets: Tensor) -> None:
    """Write an image whose rows are the other faces, the outputs and the targets, each [B,3 or more,h,w]."""
    rows = [np.concatenate(to_images(x[:, :3]), axis=1) for x in (inputs, output, targets)]
    data = cv2.imencode(".png", np.concatenate(rows))[1]
    path.write_bytes(bytes(data))
