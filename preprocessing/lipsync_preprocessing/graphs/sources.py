"""Loading a user's generator and audio encoder, from ONNX or from a checkpoint, and trying them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from lipsync_preprocessing.contract import (
    AUDIO_SHAPE,
    FACE_INPUT_SHAPE,
    FACE_OUTPUT_SHAPE,
    MEL_SHAPE,
)
from lipsync_preprocessing.errors import ModelError
from lipsync_preprocessing.graphs.networks import (
    Generator,
    prepare_audio_encoder,
    prepare_generator,
)
from lipsync_preprocessing.graphs.onnx_files import load_onnx
from lipsync_preprocessing.graphs.trial_run import run_model

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt", ".tar")
_SAME = 1e-4  # of the largest number: two encoders whose embeddings differ by less are one
_PROBE_WINDOWS = 8


@dataclass(frozen=True)
class AudioEncoder:
    """An audio encoder as Triton serves it.

    Attributes:
        model: `mel` [batch,1,80,16] in, `embedding` [batch,512] out.
        embeddings: float32 [8,512], of seeded mel windows: they tell encoders apart.
    """

    model: onnx.ModelProto
    embeddings: npt.NDArray[np.float32]

    def same_as(self, other: AudioEncoder) -> bool:
        """Return whether two encoders give the same embeddings.

        Exports of one checkpoint differ in the rounding of folded batch norms: a few millionths of the
        largest number.
        """
        tolerance = _SAME * float(np.abs(self.embeddings).max())
        return bool(np.allclose(self.embeddings, other.embeddings, rtol=0, atol=tolerance))


def load_generator(path: str | Path) -> Generator:
    """Return the generator of a 99.onnx or 99.pth with a symbolic batch, after one run.

    Raises:
        ModelError, CheckpointError: one line that begins with the path.
    """
    path = Path(path)
    try:
        if path.suffix in CHECKPOINT_SUFFIXES:
            from lipsync_preprocessing.networks.checkpoint import export_generator  # needs torch

            model = export_generator(path)
        else:
            model = load_onnx(path)
        generator = prepare_generator(model)
        rng = np.random.default_rng(0)
        face = rng.random((2, *FACE_INPUT_SHAPE)).astype(np.float32)
        audio = rng.random((2, *AUDIO_SHAPE)).astype(np.float32)
        output = run_model(generator.model, {generator.face: face, generator.audio: audio})
    except ModelError as error:
        raise _named(path, error) from error
    if output.shape != (2, *FACE_OUTPUT_SHAPE):
        wanted = [2, *FACE_OUTPUT_SHAPE]
        raise ModelError(f"{path}: expected an output {wanted}, got {list(output.shape)}")
    if not (output.min() >= 0 and output.max() <= 1):  # so that NaN is refused too
        raise ModelError(
            f"{path}: expected an output in 0…1, got {output.min():.3g}…{output.max():.3g}"
        )
    return generator


def load_audio_encoder(path: str | Path) -> AudioEncoder:
    """Return the audio encoder of an ONNX file or a checkpoint; raise as `load_generator` does."""
    path = Path(path)
    try:
        if path.suffix in CHECKPOINT_SUFFIXES:
            from lipsync_preprocessing.networks.checkpoint import export_audio_encoder

            model = export_audio_encoder(path)
        else:
            model = load_onnx(path)
        served = prepare_audio_encoder(model)
        embeddings = run_model(served, {"mel": _probe()})
    except ModelError as error:
        raise _named(path, error) from error
    if not np.isfinite(embeddings).all():
        raise ModelError(f"{path}: expected finite embeddings, got NaN or infinity")
    return AudioEncoder(served, embeddings)


def served_audio_encoder(path: Path) -> AudioEncoder:
    """Return an audio encoder of the model repository, which `load_audio_encoder` returned once."""
    model = load_onnx(path)
    return AudioEncoder(model, run_model(model, {"mel": _probe()}))


def _probe() -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(0)
    return rng.uniform(-4, 4, (_PROBE_WINDOWS, *MEL_SHAPE)).astype(np.float32)


def _named(path: Path, error: ModelError) -> ModelError:
    return error if str(error).startswith(str(path)) else ModelError(f"{path}: {error}")
