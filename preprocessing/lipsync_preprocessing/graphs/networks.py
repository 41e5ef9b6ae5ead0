"""The contract's networks in the form that the rest of the package works with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lipsync_preprocessing.contract import (
    AUDIO_SHAPE,
    EMBEDDING,
    FACE_INPUT_SHAPE,
    FACE_OUTPUT_SHAPE,
    MEL_SHAPE,
    WINDOW,
)
from lipsync_preprocessing.errors import ModelError
from lipsync_preprocessing.graphs.frame_input import make_model
from lipsync_preprocessing.graphs.onnx_files import opset_of, standard_form
from lipsync_preprocessing.graphs.ports import Ports, recognise_audio_encoder, recognise_generator
from lipsync_preprocessing.graphs.renaming import with_ports
from lipsync_preprocessing.graphs.symbolic_batch import with_symbolic_batch
from lipsync_preprocessing.graphs.trial_run import run_model
from lipsync_preprocessing.networks.graph_writer import IR_VERSION, OPSET
from lipsync_preprocessing.networks.layers import WHOLE, Place

_TOLERANCE = 1e-5  # of the largest output, or of 1


@dataclass(frozen=True)
class Generator:
    """A generator with a symbolic batch.

    Attributes:
        model: the network, in versions that the server loads.
        face, audio: names of its inputs.
        output: name of its output.
        at: the part of the face that it takes and returns.
    """

    model: onnx.ModelProto
    face: str
    audio: str
    output: str
    at: Place = WHOLE


def prepare_generator(model: onnx.ModelProto) -> Generator:
    """Return any export of the generator with a symbolic batch.

    Raises:
        ModelError: the model is no generator, or cannot be converted.
    """
    network = standard_form(model)
    ports = recognise_generator(network)
    _check_conversion(model, network, ports)
    face, audio = ports.inputs
    return Generator(with_symbolic_batch(network, ports), face.name, audio.name, ports.output.name)


def plain_generator(generator: Generator) -> onnx.ModelProto:
    """Return the network under the contract's names, for services that bring their own faces.

    `input` [batch,6,320,320] and `audio` [batch,32,16,16] in, `output` [batch,3,320,320] out.
    """
    return with_ports(
        generator.model,
        inputs={
            generator.face: ("input", FACE_INPUT_SHAPE),
            generator.audio: ("audio", AUDIO_SHAPE),
        },
        output=(generator.output, "output", FACE_OUTPUT_SHAPE),
    )


def prepare_audio_encoder(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return any export of the audio encoder: `mel` [batch,1,80,16] in, `embedding` [batch,512] out.

    Raises:
        ModelError: the model is no audio encoder, or cannot be converted.
    """
    network = standard_form(model)
    ports = recognise_audio_encoder(network)
    _check_conversion(model, network, ports)
    return with_ports(
        with_symbolic_batch(network, ports),
        inputs={ports.inputs[0].name: ("mel", MEL_SHAPE)},
        output=(ports.output.name, "embedding", (EMBEDDING,)),
    )


def _check_conversion(original: onnx.ModelProto, converted: onnx.ModelProto, ports: Ports) -> None:
    """Raise ModelError if a conversion to an older opset changed what the network computes."""
    if opset_of(original) == opset_of(converted):
        return
    feeds = ports.random_feeds(ports.batch or 1)
    before, after = run_model(original, feeds), run_model(converted, feeds)
    tolerance = _TOLERANCE * max(1.0, float(np.abs(before).max()))
    if before.shape != after.shape or not np.allclose(before, after, rtol=0, atol=tolerance):
        raise ModelError(
            f"its ONNX opset {opset_of(original)} cannot be converted down without a change; export it with"
            " opset 17"
        )


def audio_window_model() -> onnx.ModelProto:
    """Return the graph from embeddings and indices to the generator's audio input.

    `embedding` FLOAT [windows,512] and `index` INT64 [frames,16] (a row of `embedding`, or -1 for
    a zero vector) give `audio` FLOAT [frames,32,16,16]: sixteen rows, reshaped row-major.
    """
    # A row of zeros is appended: index -1 is ONNX's name for the last row.
    nodes = [
        helper.make_node("Concat", ["embedding", "zeros"], ["rows"], axis=0),
        helper.make_node("Gather", ["rows", "index"], ["gathered"], axis=0),
        helper.make_node("Reshape", ["gathered", "shape"], ["audio"]),
    ]
    constants = [
        numpy_helper.from_array(np.zeros((1, EMBEDDING), np.float32), "zeros"),
        numpy_helper.from_array(np.array([-1, *AUDIO_SHAPE], np.int64), "shape"),
    ]
    inputs = [
        helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["windows", EMBEDDING]),
        helper.make_tensor_value_info("index", TensorProto.INT64, ["frames", WINDOW]),
    ]
    output = helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["frames", *AUDIO_SHAPE])
    return make_model("audio_window", nodes, inputs, [output], constants, OPSET, IR_VERSION)
