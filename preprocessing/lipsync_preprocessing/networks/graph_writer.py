"""Writing the layers of a checkpoint as ONNX nodes; batch norms are folded into their convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from lipsync_preprocessing.errors import CheckpointError
from lipsync_preprocessing.networks.layers import State, Stride

OPSET = 17
IR_VERSION = 8
BATCH_NORM_EPSILON = 1e-5  # torch.nn.BatchNorm2d's default


def slice_constants(name: str, at: Sequence[slice]) -> dict[str, npt.NDArray[np.int64]]:
    """Return the constants of a Slice node for rows and columns, by name and in the order of its inputs."""
    bounds = {"starts": [s.start for s in at], "ends": [s.stop for s in at], "axes": [2, 3]}
    return {f"{name}.{key}": np.array(value, np.int64) for key, value in bounds.items()}


class GraphWriter:
    """Writes convolutions and what lies between them into the nodes of an ONNX graph.

    Every method that adds a node returns the name of its output.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def array(self, key: str) -> npt.NDArray[np.float32]:
        """Return an array of the state as float32; raise CheckpointError if it is missing."""
        if key not in self.state:
            raise CheckpointError(f"checkpoint: expected the array {key!r}, it is missing")
        return np.asarray(self.state[key], dtype=np.float32)

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        """Add an initializer."""
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node of one output."""
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
        """Add a convolution with its batch norm folded in: w·g/√(v+ε), (b-m)·g/√(v+ε)+β."""
        weight = self.array(f"{name}.weight")
        bias = np.zeros(len(weight), np.float32)
        if f"{name}.bias" in self.state:
            bias = self.array(f"{name}.bias")
        if batch_norm is not None:
            gamma, beta = self.array(f"{batch_norm}.weight"), self.array(f"{batch_norm}.bias")
            mean = self.array(f"{batch_norm}.running_mean")
            # float64, so that folding rounds once.
            variance = self.array(f"{batch_norm}.running_var").astype(np.float64)
            scale = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
            weight = (weight * scale[:, None, None, None]).astype(np.float32)
            bias = ((bias - mean) * scale + beta).astype(np.float32)
        return self.plain_convolution(x, name, weight, bias, stride, pad, depthwise)

    def plain_convolution(
        self,
        x: str,
        name: str,
        weight: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        stride: Stride,
        pad: int,
        depthwise: bool,
    ) -> str:
        """Add a convolution with these weights."""
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

    def slice(self, x: str, at: Sequence[slice], name: str) -> str:
        """Add a slice of rows and columns."""
        constants = [self.constant(k, v) for k, v in slice_constants(name, at).items()]
        return self.node("Slice", [x, *constants], name)

    def relu(self, x: str) -> str:
        """Add a ReLU."""
        return self.node("Relu", [x], f"{x}.relu")

    def block(self, x: str, name: str, stride: int = 1, residual: bool = False) -> str:
        """Add an IR block: 1x1 expansion, 3x3 depthwise, 1x1 projection; ReLU after the first two."""
        y = self.relu(self.convolution(x, f"{name}.conv.0", f"{name}.conv.1"))
        y = self.convolution(
            y, f"{name}.conv.3", f"{name}.conv.4", stride=(stride, stride), pad=1, depthwise=True
        )
        y = self.convolution(self.relu(y), f"{name}.conv.6", f"{name}.conv.7")
        return self.node("Add", [x, y], f"{name}.sum") if residual else y

    def double(self, x: str, name: str, stride: int = 1) -> str:
        """Add a DC block: an IR block, then one with a residual."""
        x = self.block(x, f"{name}.double_conv.0", stride)
        return self.block(x, f"{name}.double_conv.1", residual=True)

    def model(
        self,
        name: str,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
    ) -> onnx.ModelProto:
        """Return the nodes as a model."""
        graph = helper.make_graph(self.nodes, name, inputs, outputs, self.initializers)
        return helper.make_model(
            graph,
            producer_name="lipsync_preprocessing",
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
