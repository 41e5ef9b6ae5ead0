"""The device and the number format of a training."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import torch

from lipsync_preprocessing.errors import TrainingError

PRECISIONS = ("auto", "bf16", "fp16", "fp32")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Precision:
    """A device, and the format that products are computed in; weights and sums are float32 always."""

    device: torch.device
    kind: str

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which the network runs."""
        if self.kind == "fp32":
            return contextlib.nullcontext()
        kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
        return torch.autocast(self.device.type, kinds[self.kind])

    def scaler(self) -> Any:
        """Return the scaler of the loss, which only fp16 needs; it does nothing otherwise."""
        return torch.amp.GradScaler(self.device.type, enabled=self.kind == "fp16")


def choose_precision(device: str = "auto", kind: str = "auto") -> Precision:
    """Return what to train with: a GPU if there is one, and half precision where it is faster.

    Raises:
        TrainingError: this machine has no such device, or cannot compute with that format.
    """
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise TrainingError(
            "--device cuda: torch finds no NVIDIA GPU, or is a build without CUDA; install another torch, or"
            " use --device cpu"
        )
    on = torch.device("cuda" if has_gpu and device != "cpu" else "cpu")
    if on.type == "cpu":
        fast = torch.ops.mkldnn._is_mkldnn_bf16_supported()
        if kind == "fp16":
            raise TrainingError("--precision fp16: expected a GPU; use bf16 or fp32 on a CPU")
        return Precision(on, ("bf16" if fast else "fp32") if kind == "auto" else kind)
    return Precision(
        on, ("bf16" if torch.cuda.is_bf16_supported() else "fp16") if kind == "auto" else kind
    )


def device_name(precision: Precision) -> str:
    """Return a device in words: the GPU's name, or the CPU and its threads."""
    if precision.device.type == "cuda":
        return str(torch.cuda.get_device_name())
    return f"CPU, {torch.get_num_threads()} threads"
