"""A student that begins with its teacher's weights, all of them or those that matter most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from lipsync_preprocessing.contract import AUDIO_SHAPE
from lipsync_preprocessing.distillation.narrowing import Convolution, narrow
from lipsync_preprocessing.distillation.teacher import width_of
from lipsync_preprocessing.networks.graph_writer import BATCH_NORM_EPSILON
from lipsync_preprocessing.networks.layers import LayerSpec, generator_layers
from lipsync_preprocessing.networks.torch_networks import TorchGenerator
from lipsync_preprocessing.training.pairs import Batch, infer


def inherit(network: TorchGenerator, width: float, teacher: onnx.ModelProto, batch: Batch) -> bool:
    """Give a network what it can hold of its teacher's weights.

    The teacher's batch norms are part of its convolutions. Those of the network are set to undo what they do
    to the batch, so that it returns the same whether they are counted or fixed.

    Args:
        network: the student.
        width: its width.
        teacher: a generator's graph.
        batch: pairs that tell which weights matter, and count the batch norms.

    Returns:
        False if the teacher's convolutions are not the contract's, or fewer; nothing is changed then.
    """
    found, wide = _in_order_of_layers(teacher), width_of(teacher)
    if wide is None or width > wide:
        return False
    layers = list(generator_layers(float(wide)))
    if [layer.shape for layer in layers] != [tuple(weight.shape) for weight, _ in found]:
        return False
    weights = {layer.name: pair for layer, pair in zip(layers, found, strict=True)}
    if width < wide:
        source = TorchGenerator(float(wide))
        _load(source, float(wide), weights)
        doubles = {name: (w.double(), b.double()) for name, (w, b) in weights.items()}
        weights = narrow(doubles, source, width, batch)
    _load(network, width, weights)
    _count_norms(network, batch)
    return True


def _load(network: TorchGenerator, width: float, weights: Mapping[str, Convolution]) -> None:
    state: dict[str, Tensor] = network.state_dict()
    for layer in generator_layers(width):
        weight, bias = (tensor.float() for tensor in weights[layer.name])
        state |= _entries(layer, weight, bias)
    network.load_state_dict(state)


def _entries(layer: LayerSpec, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    entries = {f"{layer.name}.weight": weight}
    if layer.batch_norm is None:
        return entries | {f"{layer.name}.bias": bias}
    if layer.bias:
        entries[f"{layer.name}.bias"] = torch.zeros_like(bias)
    norm = layer.batch_norm
    return entries | {
        f"{norm}.weight": torch.ones_like(bias),
        f"{norm}.bias": bias,
        f"{norm}.running_mean": torch.zeros_like(bias),
        f"{norm}.running_var": torch.full_like(bias, 1 - BATCH_NORM_EPSILON),
    }


def _count_norms(network: TorchGenerator, batch: Batch) -> None:
    """Set the statistics of each batch norm, and its scale and shift so that its output stays as it is."""

    def count(norm: Any, inputs: tuple[Tensor, ...]) -> None:
        variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3), correction=0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_(torch.sqrt(variance + BATCH_NORM_EPSILON))
        norm.bias.add_(mean)

    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(count) for norm in norms]
    with torch.no_grad():
        infer(network.eval(), batch)
    for hook in hooks:
        hook.remove()


def _in_order_of_layers(teacher: onnx.ModelProto) -> list[Convolution]:
    """Return the convolutions of a generator: the face's, the audio's, and those of both, in order of use.

    An export may have the three in another order, and under any names. Batch norms that are nodes of their
    own are not read: nothing is returned then.
    """
    graph = teacher.graph
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    audio = {i.name for i in graph.input if _dims(i)[1:] == AUDIO_SHAPE}
    depends: dict[str, set[bool]] = {i.name: {i.name in audio} for i in graph.input}
    groups: dict[tuple[bool, ...], list[Convolution]] = {
        (False,): [],
        (True,): [],
        (False, True): [],
    }
    for node in graph.node:
        kinds = set().union(*(depends.get(name, set()) for name in node.input))
        depends |= dict.fromkeys(node.output, kinds)
        if node.op_type == "BatchNormalization":
            return []
        group = groups.get(tuple(sorted(kinds)))
        if node.op_type == "Conv" and node.input[1] in arrays and group is not None:
            weight, *rest = (
                numpy_helper.to_array(arrays[n]) for n in node.input[1:] if n in arrays
            )
            bias = rest[0] if rest else np.zeros(len(weight), np.float32)
            group.append((torch.tensor(weight), torch.tensor(bias)))
    return [convolution for group in groups.values() for convolution in group]


def _dims(port: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(d.dim_value for d in port.type.tensor_type.shape.dim)
