"""The contract's two networks as ONNX graphs, written from the arrays of a checkpoint; needs no torch."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from lipsync_preprocessing.contract import (
    AUDIO_SHAPE,
    EMBEDDING,
    FACE_INPUT_SHAPE,
    FACE_OUTPUT_SHAPE,
    MEL_SHAPE,
)
from lipsync_preprocessing.networks.graph_writer import GraphWriter
from lipsync_preprocessing.networks.layers import (
    AUDIO_ENCODER_LAYERS,
    AUDIO_ENCODER_PREFIX,
    STRIDE,
    WHOLE,
    Place,
    State,
)


def build_generator(
    state: State,
    *,
    batch: int | None = None,
    input_names: tuple[str, str] = ("input", "audio"),
    output_name: str = "output",
    at: Place = WHOLE,
) -> onnx.ModelProto:
    """Return the generator: [B,6,320,320] and [B,32,16,16] in, [B,3,320,320] out.

    Args:
        state: the arrays of a checkpoint.
        batch: the batch size; None leaves it symbolic.
        input_names: names of the face input and the audio input.
        output_name: name of the output.
        at: the part of the face that goes in and comes out.

    Raises:
        CheckpointError: an array is missing.
    """
    writer = GraphWriter(state)
    writer.node("Sigmoid", [write_generator(writer, *input_names, at)], output_name)
    size = tuple(part.stop - part.start for part in at)
    face = _port(input_names[0], batch, (FACE_INPUT_SHAPE[0], *size))
    audio = _port(input_names[1], batch, AUDIO_SHAPE)
    return writer.model(
        "generator", [face, audio], [_port(output_name, batch, (FACE_OUTPUT_SHAPE[0], *size))]
    )


def build_audio_encoder(
    state: State,
    *,
    batch: int | None = None,
    input_name: str = "mel",
    output_name: str = "embedding",
) -> onnx.ModelProto:
    """Return the audio encoder: [B,1,80,16] in, [B,512] out; the arguments are `build_generator`'s."""
    writer = GraphWriter(state)
    features = write_audio_encoder(writer, input_name)
    writer.node("Flatten", [features], output_name, axis=1)
    mel = _port(input_name, batch, MEL_SHAPE)
    return writer.model("audio_encoder", [mel], [_port(output_name, batch, (EMBEDDING,))])


def write_generator(writer: GraphWriter, face: str, audio: str, at: Place = WHOLE) -> str:
    """Write the U-Net of a part of the face up to its last convolution; return the name of the logits."""
    skips = [writer.block(face, "inc.inconv.0")]
    for i in range(1, 6):
        skips.append(writer.double(skips[-1], f"down{i}.maxpool_conv.0", stride=2))
    a = writer.block(writer.block(audio, "audio_model.conv1"), "audio_model.conv2")
    a = writer.relu(writer.convolution(a, "audio_model.conv3", "audio_model.bn3", pad=1))
    a = writer.block(a, "audio_model.conv4", residual=True)
    a = writer.convolution(a, "audio_model.conv5", "audio_model.bn5", stride=(2, 2), pad=3)
    a = writer.block(writer.relu(a), "audio_model.conv6", residual=True)
    a = writer.block(a, "audio_model.conv7", residual=True)
    if at != WHOLE:
        a = writer.slice(a, [slice(s.start // STRIDE, s.stop // STRIDE) for s in at], "at")
    x = writer.node("Concat", [skips.pop(), a], "fuse", axis=1)
    x = writer.double(writer.double(x, "fuse_conv.0"), "fuse_conv.1")
    writer.constant("up.scales", np.array([1, 1, 2, 2], np.float32))
    for i in range(1, 6):
        x = writer.node(
            "Resize",
            [x, "", "up.scales"],
            f"up{i}.resize",
            mode="linear",
            coordinate_transformation_mode="align_corners",
        )
        x = writer.node("Concat", [x, skips.pop()], f"up{i}.cat", axis=1)
        x = writer.double(x, f"up{i}.conv")
    return writer.convolution(x, "outc.conv", None)


def write_audio_encoder(writer: GraphWriter, mel: str) -> str:
    """Write the stack of convolutions; return the name of the [B,512,1,1] output."""
    x = mel
    for i, (_, _, stride, pad, residual) in enumerate(AUDIO_ENCODER_LAYERS):
        name = f"{AUDIO_ENCODER_PREFIX}{i}.conv_block"
        y = writer.convolution(x, f"{name}.0", f"{name}.1", stride=stride, pad=pad)
        if residual:
            y = writer.node("Add", [x, y], f"{name}.sum")
        x = writer.relu(y)
    return x


def _port(name: str, batch: int | None, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    first = "batch" if batch is None else batch
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [first, *shape])
