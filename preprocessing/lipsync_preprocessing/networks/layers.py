"""The convolutions of the contract's two networks, under the names of the training code's checkpoints.

A state is `dict[str, numpy.ndarray]` under those names. Channel counts are read from the arrays: the
full-size network, the "mobile" one with half of the channels and toy sizes for tests are one code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from lipsync_preprocessing.contract import AUDIO_SHAPE, EMBEDDING, FACE

State = Mapping[str, npt.NDArray[Any]]
Stride = tuple[int, int]
Place = tuple[slice, slice]
"""Rows and columns of a face, in pixels that STRIDE divides."""

STRIDE = 32  # pixels of the face for each place of the generator's lowest level
WHOLE: Place = (slice(0, FACE), slice(0, FACE))

GENERATOR_CHANNELS = (32, 64, 128, 256, 512)  # of the five levels, at width 1.0
EXPANSION = 2  # of the inverted residual blocks
AUDIO_ENCODER_PREFIX = "audio_encoder."

# (output channels at width 1.0, kernel, stride, padding, residual)
AUDIO_ENCODER_LAYERS: tuple[tuple[int, int, Stride, int, bool], ...] = (
    (32, 3, (1, 1), 1, False),
    (32, 3, (1, 1), 1, True),
    (32, 3, (1, 1), 1, True),
    (64, 3, (3, 1), 1, False),
    (64, 3, (1, 1), 1, True),
    (64, 3, (1, 1), 1, True),
    (128, 3, (3, 3), 1, False),
    (128, 3, (1, 1), 1, True),
    (128, 3, (1, 1), 1, True),
    (256, 3, (3, 2), 1, False),
    (256, 3, (1, 1), 1, True),
    (512, 3, (1, 1), 0, False),
    (512, 1, (1, 1), 0, False),
)


@dataclass(frozen=True)
class LayerSpec:
    """One convolution of a checkpoint.

    Attributes:
        name: the weight is `name.weight`, the bias `name.bias`.
        shape: of the weight.
        bias: the convolution has a bias.
        batch_norm: name of the batch norm that follows; None if there is none.
    """

    name: str
    shape: tuple[int, int, int, int]
    bias: bool
    batch_norm: str | None


def generator_channels(width: float) -> tuple[int, ...]:
    """Return the channel counts of the five levels; `width` is 1.0 full, 0.5 mobile, 1/16 toy."""
    channels = tuple(round(c * width) for c in GENERATOR_CHANNELS)
    if channels[0] < 2:
        raise ValueError(f"width: expected at least {2 / GENERATOR_CHANNELS[0]}, got {width}")
    return channels


def generator_layers(width: float) -> Iterator[LayerSpec]:
    """Yield every convolution of a generator checkpoint of this width, in order of use."""
    c0, c1, c2, c3, c4 = generator_channels(width)
    yield from _block("inc.inconv.0", 6, c0)
    for i, (cin, cout) in enumerate(((c0, c0), (c0, c1), (c1, c2), (c2, c3), (c3, c4)), 1):
        yield from _double(f"down{i}.maxpool_conv.0", cin, cout)
    yield from _block("audio_model.conv1", AUDIO_SHAPE[0], c1)
    yield from _block("audio_model.conv2", c1, c2)
    yield LayerSpec("audio_model.conv3", (c3, c2, 3, 3), True, "audio_model.bn3")
    yield from _block("audio_model.conv4", c3, c3)
    yield LayerSpec("audio_model.conv5", (c4, c3, 3, 3), True, "audio_model.bn5")
    yield from _block("audio_model.conv6", c4, c4)
    yield from _block("audio_model.conv7", c4, c4)
    yield from _double("fuse_conv.0", c4 * 2, c4)
    yield from _double("fuse_conv.1", c4, c3)
    ups = ((c3 + c3, c3 // 2), (c2 + c2, c2 // 2), (c1 + c1, c1 // 2), (c0 + c0, c0))
    for i, (cin, cout) in enumerate((*ups, (c0 + c0, c0 // 2)), 1):
        yield from _double(f"up{i}.conv", cin, cout)
    yield LayerSpec("outc.conv", (3, c0 // 2, 1, 1), True, None)


def audio_encoder_layers(width: float) -> Iterator[LayerSpec]:
    """Yield every convolution of an audio encoder checkpoint; the last one always gives 512 numbers."""
    cin = 1
    last = len(AUDIO_ENCODER_LAYERS) - 1
    for i, (channels, kernel, _, _, _) in enumerate(AUDIO_ENCODER_LAYERS):
        cout = EMBEDDING if i == last else max(1, round(channels * width))
        name = f"{AUDIO_ENCODER_PREFIX}{i}.conv_block"
        yield LayerSpec(f"{name}.0", (cout, cin, kernel, kernel), True, f"{name}.1")
        cin = cout


def _block(name: str, cin: int, cout: int) -> Iterator[LayerSpec]:
    hidden = cin * EXPANSION
    yield LayerSpec(f"{name}.conv.0", (hidden, cin, 1, 1), False, f"{name}.conv.1")
    yield LayerSpec(f"{name}.conv.3", (hidden, 1, 3, 3), False, f"{name}.conv.4")
    yield LayerSpec(f"{name}.conv.6", (cout, hidden, 1, 1), False, f"{name}.conv.7")


def _double(name: str, cin: int, cout: int) -> Iterator[LayerSpec]:
    yield from _block(f"{name}.double_conv.0", cin, cout)
    yield from _block(f"{name}.double_conv.1", cout, cout)
