"""Recognising the contract's two networks by the shapes of their inputs and outputs.

The names of inputs and outputs vary between exports, the shapes do not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from lipsync_preprocessing.contract import (
    AUDIO_SHAPE,
    EMBEDDING,
    FACE_INPUT_SHAPE,
    FACE_OUTPUT_SHAPE,
    MEL_SHAPE,
)
from lipsync_preprocessing.errors import ModelError


@dataclass(frozen=True)
class Port:
    """An input or output of a graph.

    Attributes:
        element_type: ONNX's number of the type.
        dims: None for a dimension that is not a number; None in all if the shape is unknown.
    """

    name: str
    element_type: int
    dims: tuple[int | None, ...] | None

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Return whether the port may be [batch, *shape]; unknown dimensions fit anything."""
        if self.dims is None or len(self.dims) != len(shape) + 1:
            return False
        known = [(d, s) for d, s in zip(self.dims[1:], shape, strict=True) if d is not None]
        return bool(known) and all(d == s for d, s in known)

    def __str__(self) -> str:
        dtype = TensorProto.DataType.Name(self.element_type).lower()
        if self.dims is None:
            return f"{self.name} {dtype} of unknown shape"
        return f"{self.name} {dtype} [{','.join('?' if d is None else str(d) for d in self.dims)}]"


@dataclass(frozen=True)
class Ports:
    """The recognised ports of a network; `batch` is None where it is symbolic."""

    inputs: tuple[Port, ...]
    output: Port
    batch: int | None

    def random_feeds(self, batch: int) -> dict[str, npt.NDArray[np.float32]]:
        """Return seeded inputs for a trial run; raise ModelError if a size beside the batch is unknown."""
        rng = np.random.default_rng(0)
        return {p.name: rng.random((batch, *_sizes(p))).astype(np.float32) for p in self.inputs}


def recognise_generator(model: onnx.ModelProto) -> Ports:
    """Return the face input, the audio input (in this order) and the output of a 99.onnx.

    Raises:
        ModelError: the model has other inputs or outputs.
    """
    inputs, outputs = _ports(model.graph.input), _ports(model.graph.output)
    face = _only(inputs, FACE_INPUT_SHAPE, "input", "generator")
    audio = _only(inputs, AUDIO_SHAPE, "input", "generator")
    output = _only(outputs, FACE_OUTPUT_SHAPE, "output", "generator")
    _refuse_others(inputs, (face, audio), "generator")
    return _recognised((face, audio), output)


def recognise_audio_encoder(model: onnx.ModelProto) -> Ports:
    """Return the mel input and the output of an audio encoder.

    Raises:
        ModelError: the model has other inputs or outputs.
    """
    inputs, outputs = _ports(model.graph.input), _ports(model.graph.output)
    mel = _only(inputs, MEL_SHAPE, "input", "audio encoder")
    shapes = [(EMBEDDING,), (EMBEDDING, 1), (EMBEDDING, 1, 1)]
    shape = next((s for s in shapes if any(o.fits(s) for o in outputs)), shapes[0])
    output = _only(outputs, shape, "output", "audio encoder")
    _refuse_others(inputs, (mel,), "audio encoder")
    return _recognised((mel,), output)


def _ports(values: Iterable[onnx.ValueInfoProto]) -> list[Port]:
    ports = []
    for value in values:
        tensor = value.type.tensor_type
        dims = None
        if tensor.HasField("shape"):
            dims = tuple(d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim)
        ports.append(Port(value.name, tensor.elem_type, dims))
    return ports


def _only(ports: list[Port], shape: tuple[int, ...], kind: str, what: str) -> Port:
    fitting = [p for p in ports if p.fits(shape)]
    wanted = f"[batch,{','.join(map(str, shape))}]"
    if len(fitting) != 1:
        came = "; ".join(map(str, ports)) or "none"
        count = "no" if not fitting else "more than one"
        raise ModelError(
            f"{what}: expected one {kind} of float {wanted}, got {count} such among: {came}"
        )
    if fitting[0].element_type != TensorProto.FLOAT:
        raise ModelError(f"{what}: expected {kind} of float {wanted}, got {fitting[0]}")
    return fitting[0]


def _refuse_others(ports: list[Port], known: tuple[Port, ...], what: str) -> None:
    others = [p for p in ports if p not in known]
    if others:
        raise ModelError(
            f"{what}: expected {len(known)} input(s), got also {'; '.join(map(str, others))}"
        )


def _sizes(port: Port) -> tuple[int, ...]:
    if port.dims is None or None in port.dims[1:]:
        raise ModelError(f"expected fixed sizes but for the batch, got {port}")
    return tuple(int(d) for d in port.dims[1:] if d is not None)


def _recognised(inputs: tuple[Port, ...], output: Port) -> Ports:
    batches = {p.dims[0] for p in inputs if p.dims is not None}
    if len(batches) != 1:
        raise ModelError(f"inputs: expected one batch size, got {'; '.join(map(str, inputs))}")
    return Ports(inputs, output, batches.pop())
