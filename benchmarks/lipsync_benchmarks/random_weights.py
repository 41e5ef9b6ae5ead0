"""Seeded random weights for tests and benchmarks that need a network of the right shape.

Independent random weights make sixty layers saturate or die out. Each network is therefore run once
in a variant whose batch norms use and report the statistics of that run; these statistics, slightly
disturbed, become the running statistics of the checkpoint. The batch norms are then far from the
identity, activations stay of order one, the output covers its whole range, and it depends on the audio.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx import TensorProto, helper

from lipsync_preprocessing.contract import (
    AUDIO_SHAPE,
    EMBEDDING,
    FACE,
    MASK_COLUMNS,
    MASK_ROWS,
    MEL_SHAPE,
)
from lipsync_preprocessing.networks.build import write_audio_encoder, write_generator
from lipsync_preprocessing.networks.graph_writer import BATCH_NORM_EPSILON, GraphWriter
from lipsync_preprocessing.networks.layers import (
    AUDIO_ENCODER_LAYERS,
    AUDIO_ENCODER_PREFIX,
    LayerSpec,
    State,
    Stride,
    audio_encoder_layers,
    generator_layers,
)

Floats = npt.NDArray[np.float32]
_WINDOWS = 64
_LAST_ENCODER_NORM = f"{AUDIO_ENCODER_PREFIX}{len(AUDIO_ENCODER_LAYERS) - 1}.conv_block.1.bias"
_LOGIT_STD = 1.6  # sigmoid(N(0, 1.6)) reaches 0.04 and 0.96 at two deviations
_SHIFT = 1.0  # mean of the batch norms' shifts
# Gains of the audio's paths over the face's: at the fusion, and of the upsampled input over each skip.
_FUSE_GAIN = 3.0
_DEEP_GAIN = 4.0
_STATISTICS_DIGITS = 3  # rounding differs between processors; the model must not


class _MeasuringWriter(GraphWriter):
    """A graph writer whose batch norms use the statistics of the current batch and report them."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.measured: list[str] = []

    def convolution(
        self,
        x: str,
        name: str,
        batch_norm: str | None,
        *,
        stride: Stride = (1, 1),
        pad: int = 0,
        depthwise: bool = False,
    ) -> str:
        weight = self.array(f"{name}.weight")
        bias = np.asarray(self.state.get(f"{name}.bias", np.zeros(len(weight))), np.float32)
        y = self.plain_convolution(x, name, weight, bias, stride, pad, depthwise)
        norm = batch_norm or name
        mean = self.node("ReduceMean", [y], f"{norm}.mean", axes=[0, 2, 3])
        centred = self.node("Sub", [y, mean], f"{norm}.centred")
        square = self.node("Mul", [centred, centred], f"{norm}.square")
        each = self.node("ReduceMean", [square], f"{norm}.each", axes=[0, 2, 3])
        typical = self.node("ReduceMean", [each], f"{norm}.typical", axes=[1])
        # Without this, a channel whose weights happen to cancel would have its noise amplified.
        variance = self.node("Max", [each, typical], f"{norm}.variance")
        self.measured.append(norm)
        if batch_norm is None:
            return y
        epsilon = self.constant(f"{norm}.eps", np.float32(BATCH_NORM_EPSILON).reshape(1))
        deviation = self.node("Add", [variance, epsilon], f"{norm}.veps")
        deviation = self.node("Sqrt", [deviation], f"{norm}.std")
        unit = self.node("Div", [centred, deviation], f"{norm}.unit")
        gamma = self.constant(f"{norm}.g", self.array(f"{norm}.weight").reshape(-1, 1, 1))
        beta = self.constant(f"{norm}.beta", self.array(f"{norm}.bias").reshape(-1, 1, 1))
        scaled = self.node("Mul", [unit, gamma], f"{norm}.scaled")
        return self.node("Add", [scaled, beta], f"{norm}.out")

    def measure(self, feeds: dict[str, Floats]) -> dict[str, tuple[Floats, Floats]]:
        """Return (mean, variance) of each batch norm after one run, float32 [C] each."""
        names = [f"{n}.{what}" for n in self.measured for what in ("mean", "variance")]
        values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names]
        inputs = [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, list(a.shape))
            for n, a in feeds.items()
        ]
        session = onnxruntime.InferenceSession(
            self.model("measure", inputs, values).SerializeToString(),
            providers=["CPUExecutionProvider"],
        )
        results = [np.asarray(r).reshape(-1) for r in session.run(names, feeds)]
        pairs = zip(results[::2], results[1::2], strict=True)
        return dict(zip(self.measured, pairs, strict=True))


def _draw(layers: Iterable[LayerSpec], rng: np.random.Generator) -> dict[str, npt.NDArray[Any]]:
    """Draw He-normal weights, and batch norms with a scale in 0.4…1 and a shift about 1.

    The shift keeps most values positive, where a ReLU passes them. With a shift of 0 each layer would
    amplify rounding errors by a fifth, and sixty layers would turn the last bit of an input into grey
    levels. The running statistics are not set yet.
    """
    state: dict[str, npt.NDArray[Any]] = {}
    for layer in layers:
        name, shape, batch_norm = layer.name, layer.shape, layer.batch_norm
        fan_in = int(np.prod(shape[1:]))
        weight = rng.standard_normal(shape) * np.sqrt(2.0 / fan_in)
        if re.fullmatch(r"up\d\.conv\.double_conv\.0\.conv\.0", name):
            weight[:, : shape[1] // 2] *= _DEEP_GAIN
        if name == "fuse_conv.0.double_conv.0.conv.0":
            weight[:, shape[1] // 2 :] *= _FUSE_GAIN
        state[f"{name}.weight"] = weight.astype(np.float32)
        if layer.bias:
            state[f"{name}.bias"] = (0.05 * rng.standard_normal(shape[0])).astype(np.float32)
        if batch_norm is not None:
            gamma = rng.uniform(0.4, 1.0, shape[0])
            beta = _SHIFT + 0.2 * rng.standard_normal(shape[0])
            state[f"{batch_norm}.weight"] = gamma.astype(np.float32)
            state[f"{batch_norm}.bias"] = beta.astype(np.float32)
    return state


def _settle(
    state: dict[str, npt.NDArray[Any]],
    statistics: dict[str, tuple[Floats, Floats]],
    layers: Iterable[LayerSpec],
    rng: np.random.Generator,
) -> None:
    """Write the measured statistics, slightly disturbed, into the batch norms of `state`."""
    for layer in layers:
        norm, channels = layer.batch_norm, layer.shape[0]
        if norm is None:
            continue
        mean, variance = (_round(s) for s in statistics[norm])
        off = 0.05 * rng.standard_normal(channels)
        spread = rng.uniform(0.9, 1.1, channels)
        state[f"{norm}.running_mean"] = (mean + off * np.sqrt(variance)).astype(np.float32)
        state[f"{norm}.running_var"] = (variance * spread).astype(np.float32)
        state[f"{norm}.num_batches_tracked"] = np.array(1000, np.int64)


def _round(values: Floats) -> Floats:
    exponent = np.floor(np.log10(np.maximum(np.abs(values), 1e-12)))
    unit = 10.0 ** (exponent - _STATISTICS_DIGITS + 1)
    return np.asarray(np.round(values / unit) * unit, np.float32)


def _smooth(rng: np.random.Generator, shape: tuple[int, ...], passes: int) -> Floats:
    """Return noise of unit deviation, smoothed along the last two axes."""
    noise = rng.standard_normal(shape)
    for axis in (-1, -2):
        for _ in range(passes):
            noise = noise + np.roll(noise, 1, axis) + np.roll(noise, 2, axis)
            noise = noise / noise.std()
    return noise.astype(np.float32)


def generator_state(width: float = 1.0, seed: int = 0) -> dict[str, npt.NDArray[Any]]:
    """Return a generator checkpoint of random weights, under the names of the training code.

    Args:
        width: multiplies the channel counts; 1.0 is the true size.
        seed: equal seeds give equal weights.

    Returns:
        float32 arrays; the batch norms' counters are int64.
    """
    rng = np.random.default_rng((1, seed))
    state = _draw(generator_layers(width), rng)
    face = np.clip(0.5 + 0.2 * _smooth(rng, (2, 3, FACE, FACE), 4), 0, 1).astype(np.float32)
    masked = face.copy()
    masked[:, :, MASK_ROWS, MASK_COLUMNS] = 0
    # Successive embeddings are similar: each is the sum of a common part and a part of its own.
    common = rng.standard_normal((2, 1, EMBEDDING))
    audio = np.maximum(0, common + 0.5 * rng.standard_normal((2, 16, EMBEDDING)))
    writer = _MeasuringWriter(state)
    write_generator(writer, "input", "audio")
    feeds = {
        "input": np.concatenate([face, masked], axis=1),
        "audio": audio.astype(np.float32).reshape(2, *AUDIO_SHAPE),
    }
    statistics = writer.measure(feeds)
    _settle(state, statistics, generator_layers(width), rng)
    mean, variance = (_round(s) for s in statistics["outc.conv"])
    gain = _LOGIT_STD / np.sqrt(variance)
    state["outc.conv.weight"] = (state["outc.conv.weight"] * gain[:, None, None, None]).astype("f4")
    state["outc.conv.bias"] = ((state["outc.conv.bias"] - mean) * gain).astype(np.float32)
    return state


def audio_encoder_state(width: float = 1.0, seed: int = 0) -> dict[str, npt.NDArray[Any]]:
    """Return an audio encoder checkpoint of random weights; as `generator_state`.

    Its statistics are measured on noise in the range of speech.
    """
    rng = np.random.default_rng((2, seed))
    state = _draw(audio_encoder_layers(width), rng)
    # Loud and soft windows of various spectra and noise levels, and four silent ones.
    level = rng.uniform(-4, 1, (_WINDOWS, 1, 1, 1))
    spectrum = 1.5 * _smooth(rng, (_WINDOWS, 1, MEL_SHAPE[1], 1), 4)
    noise = rng.uniform(0, 1, level.shape) * rng.standard_normal((_WINDOWS, *MEL_SHAPE))
    mel = np.clip(level + spectrum + noise, -4, 4).astype(np.float32)
    mel[:4] = -4
    # Half of the embedding's numbers are zero, as in a trained encoder.
    state[_LAST_ENCODER_NORM] -= state[_LAST_ENCODER_NORM].mean()
    writer = _MeasuringWriter(state)
    write_audio_encoder(writer, "mel")
    _settle(state, writer.measure({"mel": mel}), audio_encoder_layers(width), rng)
    return state
