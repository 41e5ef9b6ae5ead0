"""Reading a user's ONNX file, and bringing it to the versions that the server can load."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError
from onnx import helper

from lipsync_preprocessing.contract import (
    NEWEST_IR_VERSION,
    NEWEST_OPSET,
    OLDEST_OPSET,
    SERVER_RELEASE,
)
from lipsync_preprocessing.errors import ModelError, one_line
from lipsync_preprocessing.files import check_file, read_file

_LARGEST_FILE_BYTES = 2 << 30  # of a protobuf
_OLDEST_IR_VERSION = 8
_STANDARD_DOMAINS = ("", "ai.onnx")


def load_onnx(path: str | Path) -> onnx.ModelProto:
    """Return the model of an ONNX file, with its external data.

    Raises:
        ModelError: the file, or one that it names, is unreadable or is no ONNX model.
    """
    path = Path(path)
    model = read_proto(path)
    for tensor in model.graph.initializer:
        location = next((e.value for e in tensor.external_data if e.key == "location"), None)
        if location is not None:
            check_file(path.parent / location, ModelError)
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise ModelError(f"{path}: expected a valid ONNX model: {one_line(error)}") from error
    return model


def read_proto(path: Path) -> onnx.ModelProto:
    """Return the model of an ONNX file without its external data; raise as `load_onnx` does."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(read_file(path, _LARGEST_FILE_BYTES, ModelError))
    except DecodeError as error:
        raise ModelError(
            f"{path}: expected an ONNX model, but it is none: {one_line(error)}"
        ) from error
    if not model.ir_version or not model.graph.node:
        raise ModelError(f"{path}: expected an ONNX model, but it holds no graph")
    return model


def check_versions(model: onnx.ModelProto) -> None:
    """Raise ModelError if the server release could not load the model."""
    ir_version, opset = model.ir_version, opset_of(model)
    for what, newest, came in (
        ("IR version", NEWEST_IR_VERSION, ir_version),
        ("opset", NEWEST_OPSET, opset),
    ):
        if came > newest:
            raise ModelError(
                f"expected ONNX {what} {newest} at most, the newest that Triton {SERVER_RELEASE} loads, got"
                f" {came}"
            )


def standard_form(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of IR version 8 to 10 and opset 11 to 21, whose weights are no inputs.

    A newer model is converted down by ONNX's own converter; the caller compares the results.

    Raises:
        ModelError: the opset is older, or cannot be converted down, or the graph has control flow.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if copy.functions:
        copy = onnx.inliner.inline_local_functions(copy)
    for node in copy.graph.node:
        if any(a.HasField("g") or a.graphs for a in node.attribute):
            raise ModelError(
                f"expected a network without control flow, got a node {node.op_type!r}; export it with fixed"
                " shapes but for the batch, or simplify it"
            )
    weights = {i.name for i in copy.graph.initializer}
    inputs = [i for i in copy.graph.input if i.name not in weights]  # IR 3 listed weights there
    del copy.graph.input[:]
    copy.graph.input.extend(inputs)
    copy = _with_opset(copy)
    copy.ir_version = min(max(copy.ir_version, _OLDEST_IR_VERSION), NEWEST_IR_VERSION)
    used = {node.domain for node in copy.graph.node} | {""}
    versions = {o.domain: o.version for o in copy.opset_import if o.domain in used}
    del copy.opset_import[:]
    copy.opset_import.extend(helper.make_opsetid(d, v) for d, v in versions.items())
    return copy


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the standard operators that the model is written in."""
    return next((int(o.version) for o in model.opset_import if o.domain in _STANDARD_DOMAINS), 0)


def _with_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    opset = opset_of(model)
    if opset < OLDEST_OPSET:
        raise ModelError(f"expected ONNX opset {OLDEST_OPSET} or newer, got {opset}")
    if opset <= NEWEST_OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, NEWEST_OPSET)
    except Exception as error:  # the converter raises RuntimeError and its own types
        raise ModelError(
            f"expected ONNX opset {NEWEST_OPSET} at most, the newest that Triton {SERVER_RELEASE} loads, got"
            f" {opset}, which cannot be converted down ({one_line(error, 80)}); export it with opset 17"
        ) from error
