"""The contract's arithmetic, written again for the earlier systems, which share no code with the service."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ..case import ROOT, Rectangle, cores

BORDER = 4  # pixels of the 328 crop around the generator's 320
ENCODER_BATCH = 32

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]


def open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """Return an ONNX Runtime session on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def face_and_audio(generator: onnxruntime.InferenceSession) -> list[str]:
    """Return the names of the generator's two inputs, found by shape: each exporter has its own names."""
    shapes = {port.name: port.shape for port in generator.get_inputs()}
    return sorted(shapes, key=lambda name: 32 in shapes[name])


def loop_index(i: int, count: int) -> int:
    """Return the avatar's frame for video frame i: the loop starts at frame 1 (contract)."""
    last = count - 1
    if last == 0:
        return 0
    p = (i + 1) % (2 * last)
    return p if p <= last else 2 * last - p


def visual_input(crop: Image) -> Floats:
    """Return the face and the masked face of a crop.

    Args:
        crop: uint8 (328, 328, 3) BGR.

    Returns:
        float32 [6, 320, 320] in 0..1.
    """
    both = np.empty((320, 320, 6), np.uint8)
    both[:, :, :3] = both[:, :, 3:] = crop[BORDER:-BORDER, BORDER:-BORDER]
    both[5:310, 5:315, 3:] = 0
    return np.ascontiguousarray(both.transpose(2, 0, 1)).astype(np.float32) / np.float32(255)


def composite(frame: Image, crop: Image, rect: Rectangle, output: Floats) -> None:
    """Paste the generator's output into a frame.

    Args:
        frame: uint8 (H, W, 3) BGR, changed in place.
        crop: uint8 (328, 328, 3) BGR, changed in place.
        output: float32 [3, 320, 320] in 0..1.
    """
    x1, y1, x2, y2 = rect
    crop[BORDER:-BORDER, BORDER:-BORDER] = (output * np.float32(255)).transpose(1, 2, 0)
    frame[y1:y2, x1:x2] = cv2.resize(crop, (x2 - x1, y2 - y1), interpolation=cv2.INTER_CUBIC)


class AudioInputs:
    """The generator's audio inputs for a speech file, the whole clip at once.

    The mel windows come from the service's own pure functions.
    """

    def __init__(self, encoder: Path) -> None:
        sys.path.append(str(ROOT / "model_repository/mel/1"))
        import lipsync_mel

        self._windows = lipsync_mel.MelWindows()
        self._lay_out = lipsync_mel.lay_out
        self._encoder = open_session(encoder, cores())
        self._port = self._encoder.get_inputs()[0].name

    def __call__(self, path: Path) -> Floats:
        """Return the inputs of an audio file: float32 [frames, 32, 16, 16]."""
        import soundfile
        import soxr

        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        return self._blocks(soxr.resample(samples.mean(axis=1), rate, 16_000))

    def _blocks(self, samples: Floats) -> Floats:
        plan = self._lay_out(samples.size, max_frames=samples.size)
        windows = self._windows(samples, 0, plan)
        parts: list[Floats] = [
            self._encoder.run(None, {self._port: windows[n : n + ENCODER_BATCH]})[0]
            for n in range(0, len(windows), ENCODER_BATCH)
        ]
        outside = np.zeros((1, parts[0].shape[1]), np.float32)  # row -1: outside the clip
        embeddings = np.concatenate([*parts, outside])
        return np.reshape(embeddings[plan.index], (-1, 32, 16, 16))
