"""The audio of a dataset as the generator gets it: by the service's own arithmetic."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor

from lipsync_preprocessing.bundle.contents import MODELS
from lipsync_preprocessing.contract import AUDIO_SHAPE, EMBEDDING, FRAME_RATE
from lipsync_preprocessing.errors import DatasetError, TrainingError
from lipsync_preprocessing.graphs.sources import load_audio_encoder
from lipsync_preprocessing.recording.audio import SAMPLE_RATE, Samples, read_audio

AUDIO_FILES = ("audio.wav", "aud.wav")  # ours, and the training code's
_MOST_FRAMES = 1 << 20
_ENCODED = 64  # mel windows at a time


class Speech:
    """The audio windows of a clip.

    Attributes:
        level: float64 [frames], dB of full scale.
    """

    def __init__(self, samples: Samples, encoder: Path) -> None:
        windows, self._index = _mel(samples)
        model = load_audio_encoder(encoder).model
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        parts = [
            session.run(None, {"mel": windows[k : k + _ENCODED]})[0]
            for k in range(0, len(windows), _ENCODED)
        ]
        outside = np.zeros((1, EMBEDDING), np.float32)  # the last row: index -1
        self._embeddings = np.concatenate([*parts, outside])
        self.level = _levels(samples, len(self))

    def __len__(self) -> int:
        """Return the number of video frames."""
        return len(self._index)

    def windows(self, frames: npt.NDArray[np.int64]) -> Tensor:
        """Return the audio windows of frames: float32 [n,32,16,16]."""
        blocks = self._embeddings[self._index[frames]]
        return torch.from_numpy(blocks.reshape(-1, *AUDIO_SHAPE))


def dataset_audio(directory: Path, named: Path | None) -> Samples:
    """Return a dataset's audio: float32 [n], mono, 16 kHz.

    Raises:
        DatasetError: it has none.
    """
    places = [directory / name for name in AUDIO_FILES] if named is None else [named]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise DatasetError(
            f"{directory}: expected the speech in {' or '.join(AUDIO_FILES)}; name another file with --audio"
        )
    samples = read_audio(found, Fraction(0), None)
    if not len(samples):
        raise TrainingError(f"{found}: expected speech, got an empty file")
    return samples


def _mel(samples: Samples) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return the mel windows [F,1,80,16], and each frame's rows among them, [F + 2, 16]; -1 is zero."""
    folder = str(MODELS / "mel/1")
    if folder not in sys.path:
        sys.path.append(folder)  # as Triton does for the model
    from lipsync_mel import MIN_SAMPLES, MelWindows, lay_out

    padded = np.pad(samples, (0, max(0, MIN_SAMPLES - len(samples))))
    plan = lay_out(len(padded), max_frames=_MOST_FRAMES)
    return np.asarray(MelWindows()(padded, 0, plan), np.float32), plan.index


def _levels(samples: Samples, frames: int) -> npt.NDArray[np.float64]:
    step = SAMPLE_RATE // FRAME_RATE
    padded = np.zeros(frames * step)
    padded[: len(samples)] = samples[: len(padded)]
    power = (padded.reshape(frames, step) ** 2).mean(1)
    return np.asarray(10 * np.log10(np.maximum(power, 1e-10)))
