"""Reading a user's ONNX file, and recognising the contract's two models by their shapes.

Names of inputs and outputs vary between exports, shapes do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto

from lipsync_preprocessing.errors import ModelError
from lipsync_preprocessing.networks import AUDIO_SHAPE, EMBEDDING, FACE, IR_VERSION, MEL_SHAPE

FACE_INPUT_SHAPE = (6, FACE, FACE)
FACE_OUTPUT_SHAPE = (3, FACE, FACE)
# Gather of uint8 and negative indices; every export of the training code is newer or equal.
OLDEST_OPSET = 11


@dataclass(frozen=True)
class Port:
    """An input or output of a graph; a dimension that is not a number is None."""

    name: str
    element_type: int
    dims: tuple[int | None, ...] | None

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether the port may be [batch, *shape]; unknown dimensions may be anything."""
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
    """The recognised ports of a model; `batch` is None where it is symbolic."""

    inputs: tuple[Port, ...]
    output: Port
    batch: int | None


def load_onnx(path: str | Path) -> Any:
    """Read an ONNX file (with its external data); ModelError if it is not one."""
    path = Path(path)
    if not path.is_file():
        raise ModelError(
            f"{path}: expected an ONNX file, found {'a folder' if path.is_dir() else 'nothing'}"
        )
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise ModelError(
            f"{path}: expected an ONNX model, but it is none: {one_line(error)}"
        ) from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {one_line(error)}") from error
    return model


def one_line(error: BaseException, limit: int = 200) -> str:
    """The first line of an error's text, which for ONNX Runtime is long enough already."""
    text = " ".join(str(error).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def tidy(model: Any) -> Any:
    """A copy in which weights are no inputs (IR 3 had them so), of IR version 8 at least."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    weights = {i.name for i in copy.graph.initializer}
    inputs = [i for i in copy.graph.input if i.name not in weights]
    del copy.graph.input[:]
    copy.graph.input.extend(inputs)
    copy.ir_version = max(copy.ir_version, IR_VERSION)
    opset = opset_of(copy)
    if opset < OLDEST_OPSET:
        raise ModelError(f"ONNX opset: expected {OLDEST_OPSET} or newer, got {opset}")
    return copy


def opset_of(model: Any) -> int:
    """Version of the standard operators the model is written in."""
    return next((int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)


def recognise_generator(model: Any) -> Ports:
    """The face input, the audio input (in this order) and the output of a 99.onnx."""
    inputs, outputs = _ports(model.graph.input), _ports(model.graph.output)
    face = _only(inputs, FACE_INPUT_SHAPE, "input", "generator")
    audio = _only(inputs, AUDIO_SHAPE, "input", "generator")
    output = _only(outputs, FACE_OUTPUT_SHAPE, "output", "generator")
    _refuse_others(inputs, (face, audio), "generator")
    return _recognised((face, audio), output)


def recognise_audio_encoder(model: Any) -> Ports:
    """The mel input and the output of an audio encoder."""
    inputs, outputs = _ports(model.graph.input), _ports(model.graph.output)
    mel = _only(inputs, MEL_SHAPE, "input", "audio encoder")
    shapes = [(EMBEDDING,), (EMBEDDING, 1), (EMBEDDING, 1, 1)]
    shape = next((s for s in shapes if any(o.fits(s) for o in outputs)), shapes[0])
    output = _only(outputs, shape, "output", "audio encoder")
    _refuse_others(inputs, (mel,), "audio encoder")
    return _recognised((mel,), output)


def run_model(model: Any, feeds: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """First output of one run on the CPU, quietly: errors are raised, not logged too."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, feeds)[0])


def _ports(values: Any) -> list[Port]:
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
            f"{what}: expected one {kind} of float {wanted}, {count} such among: {came}"
        )
    if fitting[0].element_type != TensorProto.FLOAT:
        raise ModelError(f"{what}: expected {kind} of float {wanted}, got {fitting[0]}")
    return fitting[0]


def _refuse_others(ports: list[Port], known: tuple[Port, ...], what: str) -> None:
    others = [p for p in ports if p not in known]
    if others:
        raise ModelError(
            f"{what}: expected {len(known)} input(s), found also {'; '.join(map(str, others))}"
        )


def _recognised(inputs: tuple[Port, ...], output: Port) -> Ports:
    batches = {p.dims[0] for p in inputs if p.dims is not None}
    if len(batches) != 1:
        raise ModelError(f"inputs: expected one batch size, got {'; '.join(map(str, inputs))}")
    return Ports(inputs, output, batches.pop())
