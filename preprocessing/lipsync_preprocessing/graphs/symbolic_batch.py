"""Giving a model that was exported with a fixed batch a symbolic batch.

The training code's exporter has no dynamic axes. Its convolutions take any batch, but the inputs, the
outputs and the constants of some Reshape and Resize nodes carry the batch size. They are rewritten, and
the result is run against the original, so that a model that cannot be rewritten is refused here and
does not fail in a server.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from lipsync_preprocessing.errors import ModelError
from lipsync_preprocessing.graphs.ports import Ports
from lipsync_preprocessing.graphs.trial_run import run_model

BATCH = "batch"  # the symbol
_TOLERANCE = 1e-5


def with_symbolic_batch(model: onnx.ModelProto, ports: Ports) -> onnx.ModelProto:
    """Return a copy of the model with a symbolic first dimension named BATCH.

    Raises:
        ModelError: the batch is fixed in a place that cannot be rewritten.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    if ports.batch is not None:
        _rewrite(result, model, ports.batch)
    del result.graph.value_info[:]  # shapes of intermediate tensors, with the old batch
    names = {p.name for p in (*ports.inputs, ports.output)}
    for value in (*result.graph.input, *result.graph.output):
        if value.name in names and value.type.tensor_type.HasField("shape"):
            value.type.tensor_type.shape.dim[0].dim_param = BATCH
    if ports.batch is not None:
        _verify(model, result, ports, ports.batch)
    return result


def _rewrite(result: onnx.ModelProto, original: onnx.ModelProto, batch: int) -> None:
    shapes = _inferred_shapes(original)
    constants = {i.name: numpy_helper.to_array(i) for i in original.graph.initializer}
    for node in original.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    nodes: list[onnx.NodeProto] = []
    for index, node in enumerate(result.graph.node):
        position = {"Reshape": 1, "Resize": 3}.get(node.op_type)
        if position is not None and len(node.input) > position:
            target = constants.get(node.input[position], np.empty(0))
            source = shapes.get(node.input[0], [batch])
            if target.size > 1 and int(target[0]) == batch and source[:1] == [batch]:
                name = f"{BATCH}_free_{index}"
                if node.op_type == "Reshape":
                    _free_reshape(result.graph, node, target, name)
                else:
                    nodes.extend(_free_resize(result.graph, node, target, source, name))
        nodes.append(node)
    kept = [_copy(n) for n in nodes]
    del result.graph.node[:]
    result.graph.node.extend(kept)


def _free_reshape(
    graph: onnx.GraphProto, node: onnx.NodeProto, target: npt.NDArray[Any], name: str
) -> None:
    """Have a Reshape keep the batch: a 0 in its target does (where 0 means zero, -1 does)."""
    keeps = not any(a.name == "allowzero" and a.i for a in node.attribute)
    free = np.array([0 if keeps else -1, *target[1:]], np.int64)
    graph.initializer.append(numpy_helper.from_array(free, name))
    node.input[1] = name


def _free_resize(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    target: npt.NDArray[Any],
    source: list[int],
    name: str,
) -> list[onnx.NodeProto]:
    """Have a Resize take any batch; return the nodes that go before it.

    Sizes that are whole multiples of the input's become scales, for which there is a faster kernel;
    other sizes are computed from the input's batch.
    """

    def constant(suffix: str, value: npt.NDArray[Any]) -> str:
        graph.initializer.append(numpy_helper.from_array(value, name + suffix))
        return name + suffix

    if len(source) == len(target) and all(source) and not np.any(target % source):
        scales = constant("", (target // source).astype(np.float32))
        node.input[:] = [node.input[0], node.input[1], scales]
        return []
    first, rest = constant("_0", np.array([0])), constant("_rest", target[1:].astype(np.int64))
    node.input[3] = name
    return [
        helper.make_node("Shape", [node.input[0]], [f"{name}_shape"]),
        helper.make_node("Gather", [f"{name}_shape", first], [f"{name}_size"]),
        helper.make_node("Concat", [f"{name}_size", rest], [name], axis=0),
    ]


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _inferred_shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    return {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*inferred.input, *inferred.value_info, *inferred.output)
        if v.type.tensor_type.HasField("shape")
    }


def _verify(
    original: onnx.ModelProto, rewritten: onnx.ModelProto, ports: Ports, batch: int
) -> None:
    """Compare two batches through the original with one of double the size through the result."""
    feeds = ports.random_feeds(2 * batch)
    halves = [{n: f[i * batch : (i + 1) * batch] for n, f in feeds.items()} for i in range(2)]
    expected = np.concatenate([run_model(original, h) for h in halves])
    advice = f"the batch is fixed at {batch} and cannot be made symbolic; export with a dynamic batch axis"
    try:
        came = run_model(rewritten, feeds)
    except ModelError as error:
        raise ModelError(f"{advice} ({error})") from error
    if came.shape != expected.shape or not np.allclose(came, expected, rtol=0, atol=_TOLERANCE):
        raise ModelError(f"{advice} (rewritten, it gives other values, of shape {came.shape})")
