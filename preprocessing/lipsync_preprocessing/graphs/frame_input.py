"""The graphs before and after the generator: frame number to face input, network output to pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from lipsync_preprocessing.contract import AUDIO_SHAPE, FACE, MASK_COLUMNS, MASK_ROWS
from lipsync_preprocessing.graphs.symbolic_batch import BATCH


def face_input_graph(faces: str, count: int, opset: int, ir_version: int) -> onnx.ModelProto:
    """Return the graph from a frame number to concat(face, masked)/255.

    Args:
        faces: name of an input UINT8 [count,3,320,320], which becomes an initializer later.
        count: frames of the avatar.
        opset, ir_version: of the network that the graph is joined to.

    Returns:
        model with inputs `loop_index` INT64 [batch,1] and `audio`, and outputs `face_out` and `audio_out`.
    """
    mask = np.ones((1, 1, FACE, FACE), np.float32)
    mask[..., MASK_ROWS, MASK_COLUMNS] = 0
    last = count - 1
    constants: dict[str, npt.NDArray[Any]] = {
        "axis": np.array([1], np.int64),
        "one": np.array([1], np.int64),
        "last": np.array([last], np.int64),
        "period": np.array([2 * max(last, 1)], np.int64),
        "white": np.array(255, np.float32),
        "mask": mask,
    }
    nodes = [
        _squeeze("loop_index", "number", opset),
        # Ping-pong: p = (i+1) mod 2L, k = L - |p - L|. ONNX's Mod is never negative for 2L > 0.
        helper.make_node("Add", ["number", "one"], ["next"]),
        helper.make_node("Mod", ["next", "period"], ["phase"]),
        helper.make_node("Sub", ["phase", "last"], ["offset"]),
        helper.make_node("Abs", ["offset"], ["distance"]),
        helper.make_node("Sub", ["last", "distance"], ["frame"]),
        helper.make_node("Gather", [faces, "frame"], ["pixels"], axis=0),
        helper.make_node("Cast", ["pixels"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["levels", "white"], ["face"]),
        helper.make_node("Mul", ["face", "mask"], ["masked"]),
        helper.make_node("Concat", ["face", "masked"], ["face_out"], axis=1),
        helper.make_node("Identity", ["audio"], ["audio_out"]),
    ]
    if count == 1:  # L = 0 has no period
        nodes[4:6] = [helper.make_node("Mul", ["phase", "last"], ["frame"])]
        nodes = [n for n in nodes if n.output[0] != "offset"]
    inputs = [
        helper.make_tensor_value_info("loop_index", TensorProto.INT64, [BATCH, 1]),
        helper.make_tensor_value_info("audio", TensorProto.FLOAT, [BATCH, *AUDIO_SHAPE]),
        helper.make_tensor_value_info(faces, TensorProto.UINT8, [count, 3, FACE, FACE]),
    ]
    used = {name for node in nodes for name in node.input}
    tensors = [numpy_helper.from_array(v, k) for k, v in constants.items() if k in used]
    outputs = [_float("face_out"), _float("audio_out")]
    return make_model("face_input", nodes, inputs, outputs, tensors, opset, ir_version)


def patch_graph(opset: int, ir_version: int) -> onnx.ModelProto:
    """Return the graph from `raw` [batch,3,320,320] in 0…1 to `patch`, truncated bytes, HWC."""
    nodes = [
        helper.make_node("Mul", ["raw", "scale"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["bytes"], to=TensorProto.UINT8),
        helper.make_node("Transpose", ["bytes"], ["patch"], perm=[0, 2, 3, 1]),
    ]
    patch = helper.make_tensor_value_info("patch", TensorProto.UINT8, [BATCH, FACE, FACE, 3])
    scale = numpy_helper.from_array(np.array(255, np.float32), "scale")
    return make_model("patch", nodes, [_float("raw")], [patch], [scale], opset, ir_version)


def make_model(
    name: str,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto],
    opset: int,
    ir_version: int,
) -> onnx.ModelProto:
    """Return a model of these nodes."""
    graph = helper.make_graph(nodes, name, inputs, outputs, constants)
    return helper.make_model(
        graph,
        producer_name="lipsync_preprocessing",
        ir_version=ir_version,
        opset_imports=[helper.make_opsetid("", opset)],
    )


def _squeeze(source: str, target: str, opset: int) -> onnx.NodeProto:
    """Return a node from [batch,1] to [batch].

    A Reshape would hide from ONNX Runtime's optimiser that this batch is the audio's, and cost the
    network fused additions (and the same bits as when it runs alone).
    """
    if opset < 13:
        return helper.make_node("Squeeze", [source], [target], axes=[1])
    return helper.make_node("Squeeze", [source, "axis"], [target])


def _float(name: str) -> onnx.ValueInfoProto:
    """Return a float tensor whose shape the other graph knows."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
