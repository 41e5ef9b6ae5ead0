"""The graphs Triton serves, made from the graphs of the contract.

`compile_generator` joins an avatar's faces and its 99.onnx into one graph that takes a frame
number and an audio window and gives pixels: nothing but 32 KB goes in and 307 KB comes out per
frame, where the bare network takes 2.5 MB and gives 1.2 MB. The network itself is untouched.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from lipsync_preprocessing.batching import BATCH, with_symbolic_batch
from lipsync_preprocessing.errors import ModelError
from lipsync_preprocessing.networks import (
    AUDIO_SHAPE,
    EMBEDDING,
    FACE,
    IR_VERSION,
    MEL_SHAPE,
    OPSET,
)
from lipsync_preprocessing.onnx_models import (
    FACE_INPUT_SHAPE,
    FACE_OUTPUT_SHAPE,
    opset_of,
    recognise_audio_encoder,
    recognise_generator,
    tidy,
)
from lipsync_preprocessing.renaming import PREFIX, with_ports

Faces = npt.NDArray[np.uint8]

# The part of the face that the network must not see: x 5…314, y 5…309, inclusive.
MASK_X = slice(5, 315)
MASK_Y = slice(5, 310)
WINDOW = 16  # embeddings a frame sees
# A protobuf ends at 2 GiB, and ONNX Runtime holds an inline tensor twice while it loads; above
# this the faces lie beside the graph, where it maps them into memory.
INLINE_LIMIT_BYTES = 1 << 30
_FACES = "faces"


def compile_generator(generator: Any, faces: Faces) -> Any:
    """Faces + 99.onnx + pixel output as one model.

    Args:
        generator: the contract's generator, of any input names, fixed or symbolic batch.
        faces: uint8 [K,320,320,3] BGR, one for each frame of the avatar.

    Returns:
        model with inputs `loop_index` INT64 [batch,1], `audio` FLOAT [batch,32,16,16] and output
        `patch` UINT8 [batch,320,320,3] BGR.

    Raises:
        ModelError: another model, a batch that cannot be freed, or more than a protobuf holds.
    """
    if faces.nbytes + generator.ByteSize() > INLINE_LIMIT_BYTES:
        raise ModelError(
            f"compiled generator: expected at most {INLINE_LIMIT_BYTES >> 20} MiB in one file, got"
            f" {(faces.nbytes + generator.ByteSize()) >> 20}: use write_compiled_generator"
        )
    model = _join(generator, _checked_faces(faces))
    tensor = numpy_helper.from_array(np.ascontiguousarray(faces.transpose(0, 3, 1, 2)), _FACES)
    model.graph.initializer.append(tensor)
    return model


def write_compiled_generator(
    generator: Any, faces: Faces, path: Path, *, inline_limit_bytes: int = INLINE_LIMIT_BYTES
) -> None:
    """Write the compiled generator to `path`: a file, or for many faces a folder of that name.

    The folder holds `model.onnx` and `faces.bin`; Triton loads it where it expects the file.
    `faces` may be a memory map: it is read a frame at a time.
    """
    if faces.nbytes + generator.ByteSize() <= inline_limit_bytes:
        onnx.save(compile_generator(generator, faces), str(path))
        return
    model = _join(generator, _checked_faces(faces))
    path.mkdir()
    with (path / "faces.bin").open("wb") as file:
        for face in faces:
            file.write(np.ascontiguousarray(face.transpose(2, 0, 1)).tobytes())
    tensor = model.graph.initializer.add()
    tensor.name = _FACES
    tensor.data_type = TensorProto.UINT8
    tensor.dims.extend((len(faces), 3, FACE, FACE))
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "faces.bin"), ("offset", "0"), ("length", str(faces.nbytes))):
        tensor.external_data.add(key=key, value=value)
    onnx.save(model, str(path / "model.onnx"))


def audio_window_model() -> Any:
    """Embeddings and indices -> the generator's audio input.

    `embedding` FLOAT [windows,512] and `index` INT64 [frames,16] (a row of `embedding`, or -1 for
    a zero vector) give `audio` FLOAT [frames,32,16,16]: sixteen rows, reshaped row-major.
    """
    # A row of zeros is appended: index -1 is ONNX's name for the last row.
    nodes = [
        helper.make_node("Concat", ["embedding", "zeros"], ["rows"], axis=0),
        helper.make_node("Gather", ["rows", "index"], ["gathered"], axis=0),
        helper.make_node("Reshape", ["gathered", "shape"], ["audio"]),
    ]
    constants = [
        numpy_helper.from_array(np.zeros((1, EMBEDDING), np.float32), "zeros"),
        numpy_helper.from_array(np.array([-1, *AUDIO_SHAPE], np.int64), "shape"),
    ]
    inputs = [
        helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["windows", EMBEDDING]),
        helper.make_tensor_value_info("index", TensorProto.INT64, ["frames", WINDOW]),
    ]
    output = helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["frames", *AUDIO_SHAPE])
    return _model("audio_window", nodes, inputs, [output], constants, OPSET, IR_VERSION)


def normalise_audio_encoder(model: Any) -> Any:
    """Any export of the audio encoder with `mel` [batch,1,80,16] in, `embedding` [batch,512] out."""
    network = tidy(model)
    ports = recognise_audio_encoder(network)
    return with_ports(
        with_symbolic_batch(network, ports),
        inputs={ports.inputs[0].name: ("mel", MEL_SHAPE)},
        output=(ports.output.name, "embedding", (EMBEDDING,)),
    )


def raw_generator(generator: Any) -> Any:
    """The bare network under the contract's names, for services that bring their own faces.

    `input` [batch,6,320,320] and `audio` [batch,32,16,16] in, `output` [batch,3,320,320] out.
    """
    network = tidy(generator)
    ports = recognise_generator(network)
    face, audio = ports.inputs
    return with_ports(
        with_symbolic_batch(network, ports),
        inputs={face.name: ("input", FACE_INPUT_SHAPE), audio.name: ("audio", AUDIO_SHAPE)},
        output=(ports.output.name, "output", FACE_OUTPUT_SHAPE),
    )


def _join(generator: Any, count: int) -> Any:
    """The compiled model but for its faces, an initializer the caller appends."""
    network = tidy(generator)
    ports = recognise_generator(network)
    network = onnx.compose.add_prefix(with_symbolic_batch(network, ports), PREFIX)
    opset, ir_version = opset_of(network), network.ir_version
    face, audio = (PREFIX + p.name for p in ports.inputs)
    joined = onnx.compose.merge_models(
        _entry(count, opset, ir_version), network, io_map=[("face_out", face), ("audio_out", audio)]
    )
    joined = onnx.compose.merge_models(
        joined, _exit(opset, ir_version), io_map=[(PREFIX + ports.output.name, "raw")]
    )
    inputs = [i for i in joined.graph.input if i.name != _FACES]
    del joined.graph.input[:]
    joined.graph.input.extend(inputs)
    joined.graph.name = "lipsync_generator"
    return _one_opset(joined)


def _entry(count: int, opset: int, ir_version: int) -> Any:
    """Frame number -> concat(face, masked)/255; the faces are an input until they are put in."""
    mask = np.ones((1, 1, FACE, FACE), np.float32)
    mask[..., MASK_Y, MASK_X] = 0
    last = count - 1
    constants: dict[str, npt.NDArray[Any]] = {
        "axis": np.array([1], np.int64),
        "one": np.array([1], np.int64),
        "last": np.array([last], np.int64),
        "period": np.array([2 * max(last, 1)], np.int64),
        "white": np.array(255, np.float32),
        "mask": mask,
    }
    nodes = [
        _squeeze("loop_index", "number", opset),
        # Ping-pong: p = (i+1) mod 2L, k = L - |p - L|. ONNX's Mod is never negative for 2L > 0.
        helper.make_node("Add", ["number", "one"], ["next"]),
        helper.make_node("Mod", ["next", "period"], ["phase"]),
        helper.make_node("Sub", ["phase", "last"], ["offset"]),
        helper.make_node("Abs", ["offset"], ["distance"]),
        helper.make_node("Sub", ["last", "distance"], ["frame"]),
        helper.make_node("Gather", [_FACES, "frame"], ["pixels"], axis=0),
        helper.make_node("Cast", ["pixels"], ["levels"], to=TensorProto.FLOAT),
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
        helper.make_tensor_value_info(_FACES, TensorProto.UINT8, [count, 3, FACE, FACE]),
    ]
    outputs = [_untyped("face_out"), _untyped("audio_out")]
    used = {name for node in nodes for name in node.input}
    tensors = [numpy_helper.from_array(v, k) for k, v in constants.items() if k in used]
    return _model("entry", nodes, inputs, outputs, tensors, opset, ir_version)


def _exit(opset: int, ir_version: int) -> Any:
    """[batch,3,320,320] in 0…1 -> truncated bytes, HWC."""
    nodes = [
        helper.make_node("Mul", ["raw", "scale"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["bytes"], to=TensorProto.UINT8),
        helper.make_node("Transpose", ["bytes"], ["patch"], perm=[0, 2, 3, 1]),
    ]
    patch = helper.make_tensor_value_info("patch", TensorProto.UINT8, [BATCH, FACE, FACE, 3])
    scale = numpy_helper.from_array(np.array(255, np.float32), "scale")
    return _model("exit", nodes, [_untyped("raw")], [patch], [scale], opset, ir_version)


def _squeeze(source: str, target: str, opset: int) -> Any:
    """[batch,1] -> [batch]. A Reshape would do, but would hide from the optimiser that this batch
    is the audio's, and cost the network fused additions (and bit-equality with its bare run)."""
    if opset < 13:
        return helper.make_node("Squeeze", [source], [target], axes=[1])
    return helper.make_node("Squeeze", [source, "axis"], [target])


def _untyped(name: str) -> Any:
    """A float tensor whose shape the other side of the joint knows."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def _one_opset(model: Any) -> Any:
    """merge_models lists the operator sets once for each model it merged."""
    versions = {o.domain: o.version for o in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(d, v) for d, v in versions.items())
    return model


def _model(
    name: str,
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    constants: list[Any],
    opset: int,
    ir_version: int,
) -> Any:
    graph = helper.make_graph(nodes, name, inputs, outputs, constants)
    return helper.make_model(
        graph,
        producer_name="lipsync_preprocessing",
        ir_version=ir_version,
        opset_imports=[helper.make_opsetid("", opset)],
    )


def _checked_faces(faces: Faces) -> int:
    if faces.dtype != np.uint8 or faces.ndim != 4 or faces.shape[1:] != (FACE, FACE, 3):
        raise ModelError(
            f"faces: expected uint8 [K,{FACE},{FACE},3], got {faces.dtype} {list(faces.shape)}"
        )
    if not len(faces):
        raise ModelError("faces: expected at least one, got none")
    if sys.byteorder != "little":
        raise ModelError("ONNX holds raw data little-endian; this machine is big-endian")
    return len(faces)
