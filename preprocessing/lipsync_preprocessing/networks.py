"""The two networks of the model contract as ONNX graphs, written straight from checkpoint arrays.

A state is `dict[str, numpy.ndarray]` under the names of the training code's state dict, and
torch is not needed to write the graphs. Channel counts are read off the arrays: the full-size network, the
"mobile" one of half the channels and toy sizes for tests are one code. Batch norms are folded
into the convolutions in front of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from lipsync_preprocessing.errors import CheckpointError

State = Mapping[str, npt.NDArray[Any]]
Stride = tuple[int, int]

OPSET = 17
IR_VERSION = 8
BATCH_NORM_EPSILON = 1e-5  # torch.nn.BatchNorm2d's default
FACE = 320  # side of the face, pixels
AUDIO_SHAPE = (32, 16, 16)  # sixteen embeddings of 512, reshaped
MEL_SHAPE = (1, 80, 16)  # one mel window
EMBEDDING = 512
GENERATOR_CHANNELS = (32, 64, 128, 256, 512)  # at width 1.0
EXPANSION = 2  # of the inverted residual blocks

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
AUDIO_ENCODER_PREFIX = "audio_encoder."

# One convolution of a checkpoint: name, shape of the weight, has a bias, name of its batch norm.
LayerSpec = tuple[str, tuple[int, int, int, int], bool, str | None]


def generator_channels(width: float) -> tuple[int, ...]:
    """Channel counts of the five levels; `width` 1.0 full, 0.5 mobile, 1/16 toy."""
    channels = tuple(round(c * width) for c in GENERATOR_CHANNELS)
    if channels[0] < 2:
        raise ValueError(f"width: expected at least {2 / GENERATOR_CHANNELS[0]}, got {width}")
    return channels


def generator_layers(width: float) -> Iterator[LayerSpec]:
    """Every convolution of a generator checkpoint of this width, in order of use."""
    c0, c1, c2, c3, c4 = generator_channels(width)

    def block(name: str, cin: int, cout: int) -> Iterator[LayerSpec]:
        hidden = cin * EXPANSION
        yield f"{name}.conv.0", (hidden, cin, 1, 1), False, f"{name}.conv.1"
        yield f"{name}.conv.3", (hidden, 1, 3, 3), False, f"{name}.conv.4"
        yield f"{name}.conv.6", (cout, hidden, 1, 1), False, f"{name}.conv.7"

    def double(name: str, cin: int, cout: int) -> Iterator[LayerSpec]:
        yield from block(f"{name}.double_conv.0", cin, cout)
        yield from block(f"{name}.double_conv.1", cout, cout)

    yield from block("inc.inconv.0", 6, c0)
    for i, (cin, cout) in enumerate(((c0, c0), (c0, c1), (c1, c2), (c2, c3), (c3, c4)), 1):
        yield from double(f"down{i}.maxpool_conv.0", cin, cout)
    yield from block("audio_model.conv1", AUDIO_SHAPE[0], c1)
    yield from block("audio_model.conv2", c1, c2)
    yield "audio_model.conv3", (c3, c2, 3, 3), True, "audio_model.bn3"
    yield from block("audio_model.conv4", c3, c3)
    yield "audio_model.conv5", (c4, c3, 3, 3), True, "audio_model.bn5"
    yield from block("audio_model.conv6", c4, c4)
    yield from block("audio_model.conv7", c4, c4)
    yield from double("fuse_conv.0", c4 * 2, c4)
    yield from double("fuse_conv.1", c4, c3)
    ups = ((c3 + c3, c3 // 2), (c2 + c2, c2 // 2), (c1 + c1, c1 // 2), (c0 + c0, c0))
    for i, (cin, cout) in enumerate((*ups, (c0 + c0, c0 // 2)), 1):
        yield from double(f"up{i}.conv", cin, cout)
    yield "outc.conv", (3, c0 // 2, 1, 1), True, None


def audio_encoder_layers(width: float) -> Iterator[LayerSpec]:
    """Every convolution of an audio encoder checkpoint; the last always gives 512 numbers."""
    cin = 1
    last = len(AUDIO_ENCODER_LAYERS) - 1
    for i, (channels, kernel, _, _, _) in enumerate(AUDIO_ENCODER_LAYERS):
        cout = EMBEDDING if i == last else max(1, round(channels * width))
        name = f"{AUDIO_ENCODER_PREFIX}{i}.conv_block"
        yield f"{name}.0", (cout, cin, kernel, kernel), True, f"{name}.1"
        cin = cout


class GraphWriter:
    """Writes convolutions into an ONNX graph; `batch_norm` may be replaced to measure instead."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def array(self, key: str) -> npt.NDArray[np.float32]:
        """A state entry as float32, or CheckpointError naming it."""
        if key not in self.state:
            raise CheckpointError(f"checkpoint: expected the array {key!r}, it is missing")
        return np.asarray(self.state[key], dtype=np.float32)

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

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
        """A convolution with its batch norm folded in: w·g/√(v+ε), (b-m)·g/√(v+ε)+β."""
        weight = self.array(f"{name}.weight")
        bias = np.zeros(len(weight), np.float32)
        if f"{name}.bias" in self.state:
            bias = self.array(f"{name}.bias")
        if batch_norm is not None:
            gamma, beta = self.array(f"{batch_norm}.weight"), self.array(f"{batch_norm}.bias")
            mean = self.array(f"{batch_norm}.running_mean")
            variance = self.array(f"{batch_norm}.running_var").astype(np.float64)
            scale = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)  # float64: folded once, exactly
            weight = (weight * scale[:, None, None, None]).astype(np.float32)
            bias = ((bias - mean) * scale + beta).astype(np.float32)
        return self.emit_convolution(x, name, weight, bias, stride, pad, depthwise)

    def emit_convolution(
        self,
        x: str,
        name: str,
        weight: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        stride: Stride,
        pad: int,
        depthwise: bool,
    ) -> str:
        inputs = [x, self.constant(f"{name}.w", weight), self.constant(f"{name}.b", bias)]
        return self.node(
            "Conv",
            inputs,
            f"{name}.out",
            kernel_shape=list(weight.shape[2:]),
            strides=list(stride),
            pads=[pad] * 4,
            group=len(weight) if depthwise else 1,
        )

    def relu(self, x: str) -> str:
        return self.node("Relu", [x], f"{x}.relu")

    def block(self, x: str, name: str, stride: int = 1, residual: bool = False) -> str:
        """IR: 1x1 expand, 3x3 depthwise, 1x1 project; ReLU after the first two."""
        y = self.relu(self.convolution(x, f"{name}.conv.0", f"{name}.conv.1"))
        y = self.convolution(
            y, f"{name}.conv.3", f"{name}.conv.4", stride=(stride, stride), pad=1, depthwise=True
        )
        y = self.convolution(self.relu(y), f"{name}.conv.6", f"{name}.conv.7")
        return self.node("Add", [x, y], f"{name}.sum") if residual else y

    def double(self, x: str, name: str, stride: int = 1) -> str:
        """DC: one block, then another with a residual."""
        x = self.block(x, f"{name}.double_conv.0", stride)
        return self.block(x, f"{name}.double_conv.1", residual=True)

    def generator(self, face: str, audio: str) -> str:
        """The U-Net up to its last convolution; returns the logits' name."""
        skips = [self.block(face, "inc.inconv.0")]
        for i in range(1, 6):
            skips.append(self.double(skips[-1], f"down{i}.maxpool_conv.0", stride=2))
        a = self.block(self.block(audio, "audio_model.conv1"), "audio_model.conv2")
        a = self.relu(self.convolution(a, "audio_model.conv3", "audio_model.bn3", pad=1))
        a = self.block(a, "audio_model.conv4", residual=True)
        a = self.convolution(a, "audio_model.conv5", "audio_model.bn5", stride=(2, 2), pad=3)
        a = self.block(self.relu(a), "audio_model.conv6", residual=True)
        a = self.block(a, "audio_model.conv7", residual=True)
        x = self.node("Concat", [skips.pop(), a], "fuse", axis=1)
        x = self.double(self.double(x, "fuse_conv.0"), "fuse_conv.1")
        self.constant("up.scales", np.array([1, 1, 2, 2], np.float32))
        for i in range(1, 6):
            x = self.node(
                "Resize",
                [x, "", "up.scales"],
                f"up{i}.resize",
                mode="linear",
                coordinate_transformation_mode="align_corners",
            )
            x = self.double(
                self.node("Concat", [x, skips.pop()], f"up{i}.cat", axis=1), f"up{i}.conv"
            )
        return self.convolution(x, "outc.conv", None)

    def audio_encoder(self, mel: str) -> str:
        """The convolution stack; returns the name of the [B,512,1,1] output."""
        x = mel
        for i, (_, _, stride, pad, residual) in enumerate(AUDIO_ENCODER_LAYERS):
            name = f"{AUDIO_ENCODER_PREFIX}{i}.conv_block"
            y = self.convolution(x, f"{name}.0", f"{name}.1", stride=stride, pad=pad)
            if residual:
                y = self.node("Add", [x, y], f"{name}.sum")
            x = self.relu(y)
        return x

    def model(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        graph = helper.make_graph(self.nodes, name, inputs, outputs, self.initializers)
        return helper.make_model(
            graph,
            producer_name="lipsync_preprocessing",
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )


def _value(name: str, batch: int | None, *dims: int) -> Any:
    first = "batch" if batch is None else batch
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [first, *dims])


def build_generator(
    state: State,
    *,
    batch: int | None = None,
    input_names: tuple[str, str] = ("input", "audio"),
    output_name: str = "output",
) -> Any:
    """The generator as an ONNX model: [B,6,320,320] and [B,32,16,16] in, [B,3,320,320] out.

    `batch` None leaves the batch symbolic. Raises CheckpointError if an array is missing.
    """
    writer = GraphWriter(state)
    writer.node("Sigmoid", [writer.generator(*input_names)], output_name)
    face = _value(input_names[0], batch, 6, FACE, FACE)
    audio = _value(input_names[1], batch, *AUDIO_SHAPE)
    return writer.model("generator", [face, audio], [_value(output_name, batch, 3, FACE, FACE)])


def build_audio_encoder(
    state: State,
    *,
    batch: int | None = None,
    input_name: str = "mel",
    output_name: str = "embedding",
) -> Any:
    """The audio encoder as an ONNX model: [B,1,80,16] in, [B,512] out."""
    writer = GraphWriter(state)
    features = writer.audio_encoder(input_name)
    writer.node("Flatten", [features], output_name, axis=1)
    mel = _value(input_name, batch, *MEL_SHAPE)
    return writer.model("audio_encoder", [mel], [_value(output_name, batch, EMBEDDING)])
