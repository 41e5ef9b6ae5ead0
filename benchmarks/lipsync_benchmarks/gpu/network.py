"""The generator alone on a GPU: its precisions, batches and ways in and out, plain and compiled.

`arrays` are numpy arrays in and out: the copies over PCIe are in the clock. With `device`, inputs and outputs
lie on the device (I/O binding), which leaves the network's own time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.transformers.float16 import convert_float_to_float16

from lipsync_preprocessing import networks
from lipsync_preprocessing.compile import compile_generator

from . import random_weights
from .baselines import BORDER, ping_pong, visual_input
from .case import WORK

FP32, TF32, FP16, TRT = "fp32", "tf32", "fp16", "tensorrt-fp16"
CPU, CUDA, TENSORRT = (f"{p}ExecutionProvider" for p in ("CPU", "CUDA", "Tensorrt"))
POOL = 32  # frames of input that the clip's frames are taken from in turn
COMPARED = 4  # frames that the precisions are compared on
Feeds = dict[str, NDArray[Any]]  # [POOL, ...] by input
Report = dict[str, Any]


class Unavailable(Exception):
    """This machine lacks what the measurement needs."""


def generator_file(width: float) -> Path:
    """The plain network of a width with seeded random weights; written once."""
    path = WORK / f"99-{width}.onnx"
    if not path.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        onnx.save(networks.build_generator(random_weights.generator_state(width)), str(partial))
        partial.rename(path)
    return path


def material() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Seeded, smooth faces uint8 [POOL,320,320,3], and audio inputs float32 [POOL,32,16,16]."""
    import cv2

    rng = np.random.default_rng(0)
    side = (networks.FACE, networks.FACE)
    coarse = rng.integers(0, 256, (POOL, 20, 20, 3), dtype=np.uint8)
    faces = np.stack([cv2.resize(c, side, interpolation=cv2.INTER_CUBIC) for c in coarse])
    return faces, rng.standard_normal((POOL, *networks.AUDIO_SHAPE)).astype(np.float32)


def plain(width: float) -> tuple[Any, Feeds]:
    """The bare network, and what goes in for video frames 0 to POOL - 1."""
    model = onnx.load(str(generator_file(width)))
    faces, audio = material()
    edge = ((BORDER, BORDER), (BORDER, BORDER), (0, 0))
    inputs = [visual_input(np.pad(face, edge)) for face in faces]
    visual = np.stack([inputs[ping_pong(i, POOL)] for i in range(POOL)])
    names = [model.graph.input[n].name for n in range(2)]
    return model, dict(zip(names, (visual, audio), strict=True))


def compiled(model: Any) -> tuple[Any, Feeds]:
    """The faces and a network, of any precision inside, in one graph: what the service runs."""
    faces, audio = material()
    loop_indices = np.arange(POOL, dtype=np.int64)[:, None]
    return compile_generator(model, faces), {"loop_index": loop_indices, "audio": audio}


def half(model: Any) -> Any:
    """The same network computing in FP16; its inputs and outputs stay FP32."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)  # the converter changes its argument
    halved = convert_float_to_float16(copy, keep_io_types=True)
    # It leaves the inputs' casts at the end, where ONNX's checker does not want them.
    given = {port.name for port in halved.graph.input}
    nodes = sorted(halved.graph.node, key=lambda node: not given.issuperset(node.input))
    del halved.graph.node[:]
    halved.graph.node.extend(nodes)
    return halved


def require(provider: str) -> None:
    """Raises Unavailable where this build of ONNX Runtime has no such provider."""
    if provider not in onnxruntime.get_available_providers():
        raise Unavailable(f"this onnxruntime has no {provider}")


def open_session(model: Any, provider: str, options: dict[str, str]) -> Any:
    """A session that runs on this provider.

    Raises:
        Unavailable: ONNX Runtime has it not, or fell back to another.
    """
    require(provider)
    session_options = onnxruntime.SessionOptions()
    session_options.log_severity_level = 3
    # As the service's models have them.
    session_options.enable_mem_pattern = False
    session_options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[Any] = [(provider, options)]
    if provider == TENSORRT:
        providers.append((CUDA, {"device_id": "0"}))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options, providers=providers
    )
    # Where a library is missing ONNX Runtime carries on without a word that a program sees.
    if (came := session.get_providers()[0]) != provider:
        raise Unavailable(f"{provider} did not start (its libraries are missing?), got {came}")
    return session


def cuda_options(precision: str, search: str) -> dict[str, str]:
    tf32 = "0" if precision == FP32 else "1"
    return {"device_id": "0", "cudnn_conv_algo_search": search, "use_tf32": tf32}


def tensorrt_options(feeds: Feeds, most: int, cache: Path) -> dict[str, str]:
    """FP16, any batch from 1 to `most`, tuned for half of that."""

    def shapes(batch: int) -> str:
        dims = {name: "x".join(map(str, (batch, *a.shape[1:]))) for name, a in feeds.items()}
        return ",".join(f"{name}:{text}" for name, text in dims.items())

    return {
        "device_id": "0",
        "trt_fp16_enable": "1",
        "trt_profile_min_shapes": shapes(1),
        "trt_profile_opt_shapes": shapes(max(1, most // 2)),
        "trt_profile_max_shapes": shapes(most),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(cache),
    }


def runner(session: Any, feeds: Feeds, feed: str, device: str) -> Callable[[int], object]:
    """A call with the first frames of the pool; their number is its argument."""
    outputs = [o.name for o in session.get_outputs()]
    if feed == "arrays":
        return lambda n: session.run(outputs, {name: a[:n] for name, a in feeds.items()})
    bindings: dict[int, Any] = {}

    def call(n: int) -> None:
        if n not in bindings:  # in the warm-up
            binding = bindings[n] = session.io_binding()
            for name, array in feeds.items():
                value = onnxruntime.OrtValue.ortvalue_from_numpy(array[:n], device, 0)
                binding.bind_ortvalue_input(name, value)
            for name in outputs:
                binding.bind_output(name, device, 0)
        session.run_with_iobinding(bindings[n])
        bindings[n].synchronize_outputs()

    return call


def measure(call: Callable[[int], object], frames: int, batch: int) -> Report:
    """A clip's frames in calls of a batch; the last call has what is left. ms are by frame."""
    sizes = [min(batch, frames - n) for n in range(0, frames, batch)]
    for size in sorted(set(sizes)):  # the first runs of a shape choose algorithms and take memory
        call(size)
        call(size)
    seconds = []
    for size in sizes:
        begun = time.perf_counter()
        call(size)
        seconds.append(time.perf_counter() - begun)
    ms = np.array(seconds) / np.array(sizes) * 1000
    return {
        "frames": frames,
        "calls": len(sizes),
        "median_ms": round(float(np.median(ms)), 4),
        "p95_ms": round(float(np.percentile(ms, 95)), 4),
        "fps": round(frames / sum(seconds), 2),
    }


def rows(
    session: Any, feeds: Feeds, precision: str, device: str, frames: int, batches: list[int]
) -> Iterator[Report]:
    """A row for each batch and way in; one that fails (memory, say) says why in place of figures."""
    for batch in batches:
        for feed in ("arrays", "device"):
            row: Report = {"precision": precision, "batch": batch, "feed": feed}
            try:
                row |= measure(runner(session, feeds, feed, device), frames, batch)
            except Exception as e:
                row["error"] = f"{type(e).__name__}: {e}"[:500]
            yield row


def pictures(session: Any, feeds: Feeds) -> NDArray[Any]:
    """The session's output for the first frames."""
    result: NDArray[Any] = session.run(None, {n: a[:COMPARED] for n, a in feeds.items()})[0]
    return result


def psnr_db(came: NDArray[Any], expected: NDArray[Any]) -> float | None:
    """Peak signal-to-noise ratio; None for equal pictures. Floats peak at 1, bytes at 255."""
    peak = 255.0 if expected.dtype == np.uint8 else 1.0
    error = float(np.mean((came.astype(np.float64) - expected.astype(np.float64)) ** 2))
    return round(10 * np.log10(peak**2 / error), 2) if error else None


def bytes_a_frame(session: Any) -> dict[str, int]:
    """What `arrays` move for a frame, by the tensors' own shapes and types."""
    width = {"tensor(float)": 4, "tensor(int64)": 8, "tensor(uint8)": 1}

    def total(ports: list[Any]) -> int:
        return sum(int(np.prod(port.shape[1:])) * width[port.type] for port in ports)

    return {"in": total(session.get_inputs()), "out": total(session.get_outputs())}
