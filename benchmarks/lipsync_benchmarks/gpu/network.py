"""The generator on a GPU: precisions, batches and ways in and out, plain and compiled.

With `arrays`, inputs and outputs are numpy arrays, and the copies over PCIe are part of the time. With
`device`, they lie on the device (I/O binding), and the time is the network's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.transformers.float16 import convert_float_to_float16

from lipsync_preprocessing.contract import AUDIO_SHAPE, FACE
from lipsync_preprocessing.graphs.compile import compile_generator
from lipsync_preprocessing.graphs.networks import prepare_generator

from ..baselines.arithmetic import BORDER, loop_index, visual_input
from ..case import generator_file

FP32, TF32, FP16, TRT = "fp32", "tf32", "fp16", "tensorrt-fp16"
CPU, CUDA, TENSORRT = (f"{p}ExecutionProvider" for p in ("CPU", "CUDA", "Tensorrt"))
POOL = 32  # frames of input, from which a clip's frames are taken in turn
Feeds = dict[str, NDArray[Any]]  # [POOL, ...] by input
Provider = Literal["cuda", "cpu"]


class Unavailable(Exception):
    """This machine lacks what the measurement needs."""


def network_inputs() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return seeded, smooth faces uint8 [POOL,320,320,3] and audio windows float32 [POOL,32,16,16]."""
    rng = np.random.default_rng(0)
    side = (FACE, FACE)
    coarse = rng.integers(0, 256, (POOL, 20, 20, 3), dtype=np.uint8)
    faces = [cv2.resize(c, side, interpolation=cv2.INTER_CUBIC) for c in coarse]
    audio = rng.standard_normal((POOL, *AUDIO_SHAPE)).astype(np.float32)
    return np.stack([np.asarray(face, np.uint8) for face in faces]), audio


def plain(width: float) -> tuple[onnx.ModelProto, Feeds]:
    """Return the plain generator, and its inputs for video frames 0 to POOL - 1."""
    model = onnx.load(str(generator_file(width)))
    faces, audio = network_inputs()
    edge = ((BORDER, BORDER), (BORDER, BORDER), (0, 0))
    inputs = [visual_input(np.pad(face, edge)) for face in faces]
    visual = np.stack([inputs[loop_index(i, POOL)] for i in range(POOL)])
    names = [model.graph.input[n].name for n in range(2)]
    return model, dict(zip(names, (visual, audio), strict=True))


def compiled(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Feeds]:
    """Return the graph that the service runs: the faces and a generator of any precision in one."""
    faces, audio = network_inputs()
    loop_indices = np.arange(POOL, dtype=np.int64)[:, None]
    return compile_generator(prepare_generator(model), faces), {
        "loop_index": loop_indices,
        "audio": audio,
    }


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same network computing in FP16; its inputs and outputs stay FP32."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)  # the converter changes its argument
    halved: onnx.ModelProto = convert_float_to_float16(copy, keep_io_types=True)
    # The converter leaves the inputs' casts at the end, where ONNX's checker refuses them.
    inputs = {port.name for port in halved.graph.input}
    nodes = sorted(halved.graph.node, key=lambda node: not inputs.issuperset(node.input))
    del halved.graph.node[:]
    halved.graph.node.extend(nodes)
    return halved


def require(provider: str) -> None:
    """Raise Unavailable where this build of ONNX Runtime lacks the provider."""
    if provider not in onnxruntime.get_available_providers():
        raise Unavailable(f"this onnxruntime has no {provider}")


def open_provider(
    model: onnx.ModelProto, provider: str, options: dict[str, str]
) -> onnxruntime.InferenceSession:
    """Return a session that runs on this provider.

    Raises:
        Unavailable: ONNX Runtime lacks the provider, or fell back to another.
    """
    require(provider)
    session_options = onnxruntime.SessionOptions()
    session_options.log_severity_level = 3
    # As for the service's models.
    session_options.enable_mem_pattern = False
    session_options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = [(provider, options)]
    if provider == TENSORRT:
        providers.append((CUDA, {"device_id": "0"}))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options, providers=providers
    )
    # If a library is missing, ONNX Runtime falls back without an error that a program could see.
    if (actual := session.get_providers()[0]) != provider:
        raise Unavailable(f"{provider} did not start (are its libraries missing?), got {actual}")
    return session


def cuda_options(precision: str, search: str) -> dict[str, str]:
    """Return the options of the CUDA provider; `search` is cuDNN's, e.g. "HEURISTIC"."""
    tf32 = "0" if precision == FP32 else "1"
    return {"device_id": "0", "cudnn_conv_algo_search": search, "use_tf32": tf32}


def tensorrt_options(feeds: Feeds, largest: int, cache: Path) -> dict[str, str]:
    """Return options for FP16 and any batch from 1 to `largest`, optimised for half of that."""

    def shapes(batch: int) -> str:
        dims = {name: "x".join(map(str, (batch, *a.shape[1:]))) for name, a in feeds.items()}
        return ",".join(f"{name}:{text}" for name, text in dims.items())

    return {
        "device_id": "0",
        "trt_fp16_enable": "1",
        "trt_profile_min_shapes": shapes(1),
        "trt_profile_opt_shapes": shapes(max(1, largest // 2)),
        "trt_profile_max_shapes": shapes(largest),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(cache),
    }
