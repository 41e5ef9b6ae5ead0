"""Joining an avatar's faces and its generator into one graph.

`compile_generator` makes a graph that takes a frame number and an audio window and returns pixels: 32 KB
in and 307 KB out per frame, where the network alone takes 2.5 MB and returns 1.2 MB. The network itself
is not changed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from lipsync_preprocessing.contract import FACE
from lipsync_preprocessing.errors import ModelError
from lipsync_preprocessing.graphs.frame_input import (
    OWN_PIXELS,
    PIXELS,
    face_input_graph,
    partial_patch_graph,
    patch_graph,
)
from lipsync_preprocessing.graphs.networks import Generator
from lipsync_preprocessing.graphs.onnx_files import opset_of
from lipsync_preprocessing.graphs.renaming import prefix_of
from lipsync_preprocessing.networks.layers import WHOLE

Faces = npt.NDArray[np.uint8]

# A protobuf ends at 2 GiB, and ONNX Runtime holds an inline tensor twice while it loads. Above this size
# the faces lie in a file beside the graph, which ONNX Runtime maps into memory.
INLINE_LIMIT_BYTES = 1 << 30
_FACES = "faces"


def compile_generator(generator: Generator, faces: Faces) -> onnx.ModelProto:
    """Return faces, generator and pixel output as one model.

    Args:
        generator: see `prepare_generator`.
        faces: uint8 [K,320,320,3] BGR, one for each frame of the avatar.

    Returns:
        model with inputs `loop_index` INT64 [batch,1], `audio` FLOAT [batch,32,16,16] and output
        `patch` UINT8 [batch,320,320,3] BGR.

    Raises:
        ModelError: the faces have another shape, or the model is larger than a protobuf may be.
    """
    if faces.nbytes + generator.model.ByteSize() > INLINE_LIMIT_BYTES:
        raise ModelError(
            f"compiled generator: expected at most {INLINE_LIMIT_BYTES >> 20} MiB in one file, got"
            f" {(faces.nbytes + generator.model.ByteSize()) >> 20}: use write_compiled_generator"
        )
    model = _join(generator, _checked_faces(faces))
    tensor = numpy_helper.from_array(np.ascontiguousarray(faces.transpose(0, 3, 1, 2)), _FACES)
    model.graph.initializer.append(tensor)
    return model


def write_compiled_generator(
    generator: Generator, faces: Faces, path: Path, *, inline_limit_bytes: int = INLINE_LIMIT_BYTES
) -> None:
    """Write the compiled generator to `path`: a file, or for many faces a folder of that name.

    The folder holds `model.onnx` and `faces.bin`; Triton loads it where it expects the file.
    `faces` may be a memory map: it is read one frame at a time.
    """
    if faces.nbytes + generator.model.ByteSize() <= inline_limit_bytes:
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


def _join(generator: Generator, count: int) -> onnx.ModelProto:
    """Return the compiled model without its faces, an initializer that the caller appends."""
    prefix = prefix_of(generator.model)
    network = onnx.compose.add_prefix(generator.model, prefix)
    opset, ir_version = opset_of(network), network.ir_version
    joined = onnx.compose.merge_models(
        face_input_graph(_FACES, count, opset, ir_version, generator.at),
        network,
        io_map=[("face_out", prefix + generator.face), ("audio_out", prefix + generator.audio)],
    )
    ports = [(prefix + generator.output, "raw")]
    if generator.at == WHOLE:
        patch = patch_graph(opset, ir_version)
    else:
        patch = partial_patch_graph(opset, ir_version, generator.at)
        ports.append((PIXELS, OWN_PIXELS))
    joined = onnx.compose.merge_models(joined, patch, io_map=ports)
    inputs = [i for i in joined.graph.input if i.name != _FACES]
    del joined.graph.input[:]
    joined.graph.input.extend(inputs)
    joined.graph.name = "lipsync_generator"
    # merge_models lists the operator sets once for each model.
    versions = {o.domain: o.version for o in joined.opset_import}
    del joined.opset_import[:]
    joined.opset_import.extend(helper.make_opsetid(d, v) for d, v in versions.items())
    return joined


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
