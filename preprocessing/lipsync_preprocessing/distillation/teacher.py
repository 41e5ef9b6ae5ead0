"""A compiled generator, run as the service runs it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from lipsync_preprocessing.dataset.types import Image
from lipsync_preprocessing.graphs.trial_run import FATAL
from lipsync_preprocessing.networks.layers import GENERATOR_CHANNELS

Floats = npt.NDArray[np.float32]

_CHUNK = 32  # frames whose audio windows and patches are in memory at once


class ServedGenerator:
    """A compiled generator: frame number and audio window in, patch out, one frame on each core.

    Args:
        path: its ONNX file, or the folder of that name.
        frames: number of the avatar's frames.
    """

    def __init__(self, path: Path, frames: int) -> None:
        self._frames = frames
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = FATAL
        self._session = onnxruntime.InferenceSession(
            str(graph_file(path)), options, providers=["CPUExecutionProvider"]
        )
        self._workers = len(os.sched_getaffinity(0))

    def patches(self, frames: Sequence[int], windows: Floats) -> Iterator[Image]:
        """Yield the patch of each of these frames with its audio window, uint8 (320, 320, 3) BGR.

        Args:
            frames: numbers of frames, not places in the loop.
            windows: float32 [n,32,16,16].
        """
        with ThreadPoolExecutor(self._workers) as pool:
            for k in range(0, len(frames), _CHUNK):
                yield from pool.map(self._patch, frames[k : k + _CHUNK], windows[k : k + _CHUNK])

    def _patch(self, frame: int, window: Floats) -> Image:
        place = np.array([[place_of(frame, self._frames)]], np.int64)
        patch: Image = self._session.run(None, {"loop_index": place, "audio": window[None]})[0][0]
        return patch


def place_of(frame: int, frames: int) -> int:
    """Return the first place in the loop that shows a frame: the ping-pong of the contract begins at 1."""
    return (frame - 1) % max(2 * (frames - 1), 1)


def digest(*paths: Path) -> str:
    """Return a digest of files: a training goes on only with the same."""
    found = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
    return found.hexdigest()[:16]


def graph_file(path: Path) -> Path:
    """Return the ONNX file of a generator, which lies in a folder if its faces are beside it."""
    return path / path.name if path.is_dir() else path


def width_of(model: onnx.ModelProto) -> Fraction | None:
    """Return a generator's width, 1 for the true size; None if it is not the contract's U-Net.

    Its last convolution makes three colours of half as many channels as its first level has.
    """
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for node in reversed(model.graph.node):
        if node.op_type == "Conv":
            shape = shapes.get(node.input[1], ())
            if len(shape) == 4 and shape[0] == 3 and shape[2:] == (1, 1):
                return Fraction(2 * shape[1], GENERATOR_CHANNELS[0])
            return None
    return None
