"""Changes to a network that leave its function as it is and let OpenVINO compute it in less time.

What each gains is measured in docs/speed.md, and what was tried and dropped. They look for shapes of graph,
not for names, and do nothing to a graph that has none of these.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from openvino import opset13 as ops
from openvino.passes import ConstantFolding, Manager

Floats = NDArray[np.float32]

# Elements of a tensor that no cache holds: in such a block the strips pay, in smaller ones they cost.
_LARGE = 5_000_000
_STRIP = 16  # rows


class Pointwise(NamedTuple):
    """A 1x1 convolution with its bias: source, weights (out, in) and bias (out,), and the end of both."""

    source: Any
    weights: Floats
    bias: Floats
    end: Any


class Block(NamedTuple):
    """1x1 expand, ReLU, 3x3 depthwise of stride 1, ReLU, 1x1 project."""

    expand: Pointwise
    weights: Floats  # (channels, 1, 1, 3, 3)
    bias: Floats
    project: Pointwise


def apply_steps(model: Any) -> tuple[int, int]:
    """All steps, in place; the model's shapes must be static. Returns how often each applied."""
    folding = Manager()
    folding.register_pass(ConstantFolding())  # so that weights and biases are plain constants
    folding.run_passes(model)
    applied = fold_projections(model), cut_into_strips(model)
    model.validate_nodes_and_infer_types()
    return applied


def fold_projections(model: Any) -> int:
    """Multiply a 1x1 convolution that ends in a concatenation into the 1x1 convolution that reads it.

    No ReLU lies between them, so W (P h + p) = (W P) h + W p: the first skip connection is 12 channels
    wide instead of 32. Returns how many concatenations changed.
    """
    changed = 0
    for node in model.get_ordered_ops():
        reader = _pointwise(node.output(0)) if node.get_type_name() == "Add" else None
        if reader is None or reader.source.get_node().get_type_name() != "Concat":
            continue
        if len(reader.source.get_target_inputs()) > 1:
            continue
        parts, weights, bias, first = [], [], reader.bias.astype(np.float64), 0
        narrower = False
        for part in reader.source.get_node().input_values():
            own = reader.weights[:, first : first + part.shape[1]].astype(np.float64)
            first += part.shape[1]
            inner = _pointwise(part)
            if inner is not None and inner.weights.shape[1] < inner.weights.shape[0]:
                bias = bias + own @ inner.bias
                own = own @ inner.weights
                part, narrower = inner.source, True
            parts.append(part)
            weights.append(own)
        if narrower:
            joined = ops.concat(parts, 1)
            _replace(reader.end, _convolve(joined, np.concatenate(weights, axis=1), bias))
            changed += 1
    return changed


def cut_into_strips(model: Any) -> int:
    """Compute a block whose inner tensors are larger than the cache a strip of rows at a time.

    A strip needs a row more on each side; the sums are the same. Returns how many blocks changed.
    """
    blocks = [block for node in model.get_ordered_ops() if (block := _block(node)) is not None]
    large = [b for b in blocks if int(np.prod(b.expand.end.shape)) >= _LARGE]
    for block in large:
        source = block.expand.source
        height = int(source.shape[2])
        strips = []
        for top in range(0, height, _STRIP):
            bottom = min(top + _STRIP, height)
            above, below = int(top > 0), int(bottom < height)
            rows = [np.array([n], np.int64) for n in (top - above, bottom + below, 1, 2)]
            strip = ops.slice(source, *rows)
            strip = ops.relu(_convolve(strip, block.expand.weights, block.expand.bias))
            strip = ops.group_convolution(
                strip, block.weights, [1, 1], [1 - above, 1], [1 - below, 1], [1, 1]
            )
            strip = ops.relu(ops.add(strip, block.bias.reshape(1, -1, 1, 1)))
            strips.append(_convolve(strip, block.project.weights, block.project.bias))
        _replace(block.project.end, ops.concat(strips, 2))
    return len(large)


def _block(node: Any) -> Block | None:
    """The block that ends in this node."""
    project = _pointwise(node.output(0)) if node.get_type_name() == "Add" else None
    inner = None if project is None else _before(project.source, "Relu")
    biased = None if inner is None else _biased(inner)
    if project is None or biased is None:
        return None
    convolution, bias = biased
    weights = _constant(convolution.input_value(1))
    opened = _before(convolution.input_value(0), "Relu")
    expand = None if opened is None else _pointwise(opened)
    attributes = convolution.get_attributes()
    fits = (
        convolution.get_type_name() == "GroupConvolution"
        and weights is not None
        and weights.shape[1:] == (1, 1, 3, 3)
        and all(attributes[k] == [1, 1] for k in ("strides", "dilations", "pads_begin", "pads_end"))
    )
    if not fits or expand is None or weights is None:
        return None
    return Block(expand, weights, bias, project)


def _pointwise(end: Any) -> Pointwise | None:
    """The 1x1 convolution and bias that end in this output."""
    biased = _biased(end)
    if biased is None or biased[0].get_type_name() != "Convolution":
        return None
    weights = _constant(biased[0].input_value(1))
    attributes = biased[0].get_attributes()
    padded = any(attributes["pads_begin"]) or any(attributes["pads_end"])
    if weights is None or weights.shape[2:] != (1, 1) or attributes["strides"] != [1, 1] or padded:
        return None
    return Pointwise(biased[0].input_value(0), weights[:, :, 0, 0], biased[1], end)


def _biased(end: Any) -> tuple[Any, Floats] | None:
    """The convolution whose only reader adds a constant a channel, giving this output; and the constant."""
    node = end.get_node()
    if node.get_type_name() != "Add":
        return None
    convolution, bias = node.input_value(0).get_node(), _constant(node.input_value(1))
    if not convolution.get_type_name().endswith("Convolution") or bias is None:
        return None
    if bias.size != end.shape[1] or len(convolution.output(0).get_target_inputs()) > 1:
        return None
    return convolution, bias.reshape(-1)


def _before(end: Any, kind: str) -> Any:
    """Input of the node of this kind that gives an output; None for another kind, or with other readers."""
    node = end.get_node()
    if node.get_type_name() != kind or len(end.get_target_inputs()) > 1:
        return None
    return node.input_value(0)


def _constant(value: Any) -> Floats | None:
    node = value.get_node()
    return np.array(node.data) if node.get_type_name() == "Constant" else None


def _convolve(source: Any, weights: NDArray[Any], bias: NDArray[Any]) -> Any:
    """A 1x1 convolution with its bias."""
    kernel = np.ascontiguousarray(weights[:, :, None, None], np.float32)
    result = ops.convolution(source, kernel, [1, 1], [0, 0], [0, 0], [1, 1])
    return ops.add(result, bias.reshape(1, -1, 1, 1).astype(np.float32))


def _replace(end: Any, node: Any) -> None:
    for reader in end.get_target_inputs():
        reader.replace_source_output(node.output(0))
