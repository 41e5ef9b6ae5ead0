"""Giving a model the tensor names and the static shapes that its config states."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto, helper

from lipsync_preprocessing.batching import BATCH

PREFIX = "network/"  # of every name inside a user's model, so that none meets ours


def with_ports(
    model: Any,
    inputs: dict[str, tuple[str, tuple[int, ...]]],
    output: tuple[str, str, tuple[int, ...]],
) -> Any:
    """A copy whose ports have other names, and shapes [batch, ...].

    Args:
        model: of symbolic batch.
        inputs: for each input its new name and its shape without the batch.
        output: the output's name, new name and shape; flattened if it has more axes than that.
    """
    result = onnx.compose.add_prefix(model, PREFIX)
    graph = result.graph
    old_output, new_output, output_shape = output
    entries = [
        helper.make_node("Identity", [new], [PREFIX + old]) for old, (new, _) in inputs.items()
    ]
    came = next(v for v in graph.output if v.name == PREFIX + old_output)
    op = "Identity" if _rank(came) == len(output_shape) + 1 else "Flatten"
    nodes = [*entries, *graph.node, helper.make_node(op, [PREFIX + old_output], [new_output])]
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    for field, values in (
        (graph.node, copies),
        (graph.input, [_port(new, shape) for new, shape in inputs.values()]),
        (graph.output, [_port(new_output, output_shape)]),
    ):
        del field[:]
        field.extend(values)
    return result


def _port(name: str, shape: tuple[int, ...]) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, *shape])


def _rank(value: Any) -> int:
    return len(value.type.tensor_type.shape.dim)
