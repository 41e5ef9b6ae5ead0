"""The graphs before and after the generator: frame number to face input, network output to pixels.

A generator may compute a part of the face alone. The rest of the patch is then the frame's own pixels, and
along the edge the output fades into them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from lipsync_preprocessing.contract import AUDIO_SHAPE, FACE, MASK_COLUMNS, MASK_ROWS
from lipsync_preprocessing.graphs.symbolic_batch import BATCH
from lipsync_preprocessing.networks.graph_writer import slice_constants
from lipsync_preprocessing.networks.layers import WHOLE, Place

FADE = 16  # pixels inside the edge of a part of the face
PIXELS, OWN_PIXELS = "pixels", "own_pixels"  # what goes from the one graph to the other


def face_input_graph(
    faces: str, count: int, opset: int, ir_version: int, at: Place = WHOLE
) -> onnx.ModelProto:
    """Return the graph from a frame number to concat(face, masked)/255.

    Args:
        faces: name of an input UINT8 [count,3,320,320], which becomes an initializer later.
        count: frames of the avatar.
        opset, ir_version: of the network that the graph is joined to.
        at: the part of the face that the network takes.

    Returns:
        model with inputs `loop_index` INT64 [batch,1] and `audio`, and outputs `face_out` and `audio_out`;
        for a part of the face also `pixels` UINT8 [batch,3,320,320], the whole one.
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
        "mask": np.ascontiguousarray(mask[:, :, at[0], at[1]]),
        **slice_constants("seen", at),
    }
    part = at != WHOLE
    nodes = [
        _squeeze("loop_index", "number", opset),
        # Ping-pong: p = (i+1) mod 2L, k = L - |p - L|. ONNX's Mod is never negative for 2L > 0.
        helper.make_node("Add", ["number", "one"], ["next"]),
        helper.make_node("Mod", ["next", "period"], ["phase"]),
        helper.make_node("Sub", ["phase", "last"], ["offset"]),
        helper.make_node("Abs", ["offset"], ["distance"]),
        helper.make_node("Sub", ["last", "distance"], ["frame"]),
        helper.make_node("Gather", [faces, "frame"], [PIXELS], axis=0),
        *([_slice(PIXELS, "seen", at)] if part else []),
        helper.make_node("Cast", ["seen" if part else PIXELS], ["levels"], to=TensorProto.FLOAT),
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
    if part:
        outputs.append(_bytes(PIXELS))
    return make_model("face_input", nodes, inputs, outputs, tensors, opset, ir_version)


def patch_graph(opset: int, ir_version: int) -> onnx.ModelProto:
    """Return the graph from `raw` [batch,3,320,320] in 0…1 to `patch`, truncated bytes, HWC."""
    nodes = [
        helper.make_node("Mul", ["raw", "scale"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["bytes"], to=TensorProto.UINT8),
        helper.make_node("Transpose", ["bytes"], ["patch"], perm=[0, 2, 3, 1]),
    ]
    scale = numpy_helper.from_array(np.array(255, np.float32), "scale")
    return make_model("patch", nodes, [_float("raw")], [_patch()], [scale], opset, ir_version)


def partial_patch_graph(opset: int, ir_version: int, at: Place) -> onnx.ModelProto:
    """Return the graph from `raw` [batch,3,h,w] in 0…1, a part of the face, and `own_pixels` to `patch`.

    Args:
        opset, ir_version: of the network that the graph is joined to.
        at: that part.
    """
    rows, columns = at
    outside: dict[str, Place] = {
        "above": (slice(0, rows.start), WHOLE[1]),
        "left": (rows, slice(0, columns.start)),
        "right": (rows, slice(columns.stop, FACE)),
        "below": (slice(rows.stop, FACE), WHOLE[1]),
    }
    outside = {k: v for k, v in outside.items() if all(s.stop > s.start for s in v)}
    nodes = [
        _slice(OWN_PIXELS, "own", at),
        helper.make_node("Cast", ["own"], ["own_levels"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["own_levels", "half"], ["shown"]),  # bytes are truncated
        helper.make_node("Mul", ["raw", "scale"], ["painted"]),
        helper.make_node("Sub", ["painted", "shown"], ["change"]),
        helper.make_node("Mul", ["change", "fade"], ["faded"]),
        helper.make_node("Add", ["shown", "faded"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["inside"], to=TensorProto.UINT8),
        *(_slice(OWN_PIXELS, name, where) for name, where in outside.items()),
    ]
    ends = "inside"
    for axis, names in ((3, ("left", ends, "right")), (2, ("above", "", "below"))):
        parts = [n or ends for n in names if n in outside or n in ("", "inside")]
        nodes.append(helper.make_node("Concat", parts, [f"joined{axis}"], axis=axis))
        ends = f"joined{axis}"
    nodes.append(helper.make_node("Transpose", [ends], ["patch"], perm=[0, 2, 3, 1]))
    constants: dict[str, npt.NDArray[Any]] = {
        "half": np.array(0.5, np.float32),
        "scale": np.array(255, np.float32),
        "fade": fade(at)[None, None],
        **slice_constants("own", at),
    }
    for name, where in outside.items():
        constants |= slice_constants(name, where)
    tensors = [numpy_helper.from_array(v, k) for k, v in constants.items()]
    inputs = [_float("raw"), _bytes(OWN_PIXELS)]
    return make_model("patch", nodes, inputs, [_patch()], tensors, opset, ir_version)


def fade(at: Place) -> npt.NDArray[np.float32]:
    """Return the weight of a generator's output in a part of the face, float32 (h, w).

    It is 1 but for the edges that lie within the face, along which it falls to 0.
    """
    ramps = []
    for part in at:
        places = np.arange(part.start, part.stop) + 0.5
        near = np.full(len(places), np.inf)
        if part.start > 0:
            near = places - part.start
        if part.stop < FACE:
            near = np.minimum(near, part.stop - places)
        ramps.append(0.5 - 0.5 * np.cos(np.pi * np.minimum(near / FADE, 1)))
    rows, columns = ramps
    return np.asarray(np.outer(rows, columns), np.float32)


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


def _slice(source: str, name: str, at: Place) -> onnx.NodeProto:
    """Return a node that slices rows and columns, whose constants `slice_constants` returns."""
    return helper.make_node("Slice", [source, *slice_constants(name, at)], [name])


def _patch() -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("patch", TensorProto.UINT8, [BATCH, FACE, FACE, 3])


def _bytes(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.UINT8, [BATCH, 3, FACE, FACE])


def _float(name: str) -> onnx.ValueInfoProto:
    """Return a float tensor whose shape the other graph knows."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
