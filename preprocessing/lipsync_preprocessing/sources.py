"""What the user calls generator and audio encoder, whatever file it comes in, tried out once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lipsync_preprocessing.batching import with_symbolic_batch
from lipsync_preprocessing.compile import normalise_audio_encoder
from lipsync_preprocessing.errors import ModelError
from lipsync_preprocessing.networks import AUDIO_SHAPE, FACE, MEL_SHAPE
from lipsync_preprocessing.onnx_models import (
    FACE_INPUT_SHAPE,
    load_onnx,
    one_line,
    recognise_generator,
    run_model,
    tidy,
)

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt", ".tar")
_SAME = 1e-5  # two encoders whose embeddings differ by less are one
_PROBE_WINDOWS = 8


def load_generator(path: str | Path) -> Any:
    """A generator from 99.onnx or 99.pth, its batch symbolic; run once, and its answer looked at.

    Raises:
        ModelError, CheckpointError: one line, beginning with the path.
    """
    path = Path(path)
    if path.suffix in CHECKPOINT_SUFFIXES:
        from lipsync_preprocessing.export import export_generator  # needs torch

        model = export_generator(path)
    else:
        model = load_onnx(path)
    try:
        model = tidy(model)
        ports = recognise_generator(model)
        model = with_symbolic_batch(model, ports)
        rng = np.random.default_rng(0)
        shapes = (FACE_INPUT_SHAPE, AUDIO_SHAPE)
        feeds = {
            port.name: rng.random((2, *shape)).astype(np.float32)
            for port, shape in zip(ports.inputs, shapes, strict=True)
        }
        output = _try(model, feeds)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    if output.shape != (2, 3, FACE, FACE):
        raise ModelError(f"{path}: expected output [2,3,{FACE},{FACE}], got {list(output.shape)}")
    # Also true of NaN.
    if not (output.min() >= 0 and output.max() <= 1):
        raise ModelError(
            f"{path}: expected an output in 0…1, got {output.min():.3g}…{output.max():.3g}"
        )
    return model


def load_audio_encoder(path: str | Path) -> Any:
    """An audio encoder from its ONNX file or checkpoint, as Triton serves it, run once."""
    path = Path(path)
    if path.suffix in CHECKPOINT_SUFFIXES:
        from lipsync_preprocessing.export import export_audio_encoder

        model = export_audio_encoder(path)
    else:
        model = load_onnx(path)
    try:
        model = normalise_audio_encoder(model)
        embeddings = _probe(model)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    if not np.isfinite(embeddings).all():
        raise ModelError(f"{path}: expected finite embeddings, got NaN or infinity")
    return model


def same_audio_encoder(first: Any, second: Any) -> bool:
    """Whether two normalised encoders give the same embeddings, to rounding."""
    a, b = _probe(first), _probe(second)
    return bool(np.allclose(a, b, rtol=_SAME, atol=_SAME))


def _probe(model: Any) -> Any:
    rng = np.random.default_rng(0)
    mel = rng.uniform(-4, 4, (_PROBE_WINDOWS, *MEL_SHAPE)).astype(np.float32)
    return _try(model, {"mel": mel})


def _try(model: Any, feeds: dict[str, Any]) -> Any:
    try:
        return run_model(model, feeds)
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        raise ModelError(f"ONNX Runtime cannot run it: {one_line(error)}") from error
