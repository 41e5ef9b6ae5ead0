"""Noticing that a generator was not trained with the audio features that it gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from lipsync_benchmarks import random_weights
from lipsync_preprocessing import networks
from lipsync_preprocessing.avatar.audio_fit import AudioFit, audio_fit
from lipsync_preprocessing.embedded import speech
from lipsync_preprocessing.errors import AvatarError
from support import oracle

WEIGHTS = Path(__file__).parents[2] / "examples/demo/weights"
RATE = 16000


@pytest.fixture(scope="module")
def generator() -> onnx.ModelProto:
    """The demo's: trained with its encoder."""
    return onnx.load(str(WEIGHTS / "generator.onnx"))


@pytest.fixture(scope="module")
def windows() -> tuple[Any, Any]:
    """Audio windows of the demo's encoder for speech and for silence."""
    encoder = onnxruntime.InferenceSession(str(WEIGHTS / "audio_encoder.onnx"))
    clips = speech(RATE, 1), np.zeros(RATE, np.float32)
    spoken, silent = (
        oracle.audio_inputs(oracle.embeddings(oracle.mel_windows(oracle.mel(clip)), encoder))
        for clip in clips
    )
    return spoken, silent


def fit_of(generator: onnx.ModelProto, windows: tuple[Any, Any], factor: float = 1.0) -> AudioFit:
    fit = audio_fit(generator, *(w * np.float32(factor) for w in windows))
    assert fit is not None
    return fit


def test_the_encoder_of_the_training_fits(generator: Any, windows: Any) -> None:
    fit = fit_of(generator, windows)
    fit.check()
    assert 0.8 < fit.scale < 1.6
    assert fit.response > 0.6


@pytest.mark.parametrize(
    ("factor", "message"),
    [(10, "values 2[0-9].* times as large as in training"), (0.03, r"by (\d|1[0-4])% ")],
)
def test_features_of_another_scale_do_not(
    factor: float, message: str, generator: Any, windows: Any
) -> None:
    """As hubert's and ave's differ."""
    with pytest.raises(AvatarError, match=message + r".*\(hubert, wenet\)"):
        fit_of(generator, windows, factor).check()


def test_batch_norms_may_be_nodes_of_their_own(windows: Any) -> None:
    """As in an export that does not fold them: what follows the norm counts, not the convolution."""
    model = networks.build_generator(random_weights.generator_state(1 / 16, seed=1))
    folded = fit_of(model, windows)
    index, first = next((i, n) for i, n in enumerate(model.graph.node) if "audio" in n.input)
    name, channels = first.output[0], 2 * 32
    first.output[0] = "before"
    gain = np.full(channels, 1e-3, np.float32)
    arrays = {"gamma": 1 / gain, "beta": gain * 0, "mean": gain * 0, "variance": gain * 0 + 1}
    for weight in first.input[1:]:
        tensor = next(t for t in model.graph.initializer if t.name == weight)
        small = onnx.numpy_helper.to_array(tensor) * np.float32(1e-3)
        tensor.CopyFrom(onnx.numpy_helper.from_array(small, weight))
    for key, value in arrays.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, key))
    norm = onnx.helper.make_node("BatchNormalization", ["before", *arrays], [name], epsilon=1e-12)
    model.graph.node.insert(index + 1, norm)
    fit = fit_of(model, windows)
    assert fit.scale == pytest.approx(folded.scale, rel=1e-3)
    assert fit.response == pytest.approx(folded.response, rel=1e-3)
