"""Giving a network the tensor names and the static shapes that its Triton config states."""

from __future__ import annotations

import hashlib

import onnx
from onnx import TensorProto, helper

from lipsync_preprocessing.graphs.symbolic_batch import BATCH


def prefix_of(model: onnx.ModelProto) -> str:
    """Return the prefix of every name inside a user's model: none equals a name of ours, or of another model.

    ONNX Runtime names a cached TensorRT engine by the names in the graph and of the file, never by the
    weights. With equal names, one avatar would be served with the engine, and so with the face, of another.
    """
    return (
        f"network_{hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()[:12]}/"
    )


def with_ports(
    model: onnx.ModelProto,
    inputs: dict[str, tuple[str, tuple[int, ...]]],
    output: tuple[str, str, tuple[int, ...]],
) -> onnx.ModelProto:
    """Return a copy whose inputs and output have other names, and shapes [batch, ...].

    Args:
        model: has a symbolic batch.
        inputs: for each input its new name and its shape without the batch.
        output: the output's name, new name and shape; the output is flattened if it has more axes.
    """
    prefix = prefix_of(model)
    result = onnx.compose.add_prefix(model, prefix)
    graph = result.graph
    old_output, new_output, output_shape = output
    entries = [
        helper.make_node("Identity", [new], [prefix + old]) for old, (new, _) in inputs.items()
    ]
    came = next(v for v in graph.output if v.name == prefix + old_output)
    op = "Identity" if _rank(came) == len(output_shape) + 1 else "Flatten"
    nodes = [*entries, *graph.node, helper.make_node(op, [prefix + old_output], [new_output])]
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    for field in (graph.node, graph.input, graph.output):
        del field[:]
    graph.node.extend(copies)
    graph.input.extend(_port(new, shape) for new, shape in inputs.values())
    graph.output.append(_port(new_output, output_shape))
    return result


def _port(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, *shape])


def _rank(value: onnx.ValueInfoProto) -> int:
    return len(value.type.tensor_type.shape.dim)
