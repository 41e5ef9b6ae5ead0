"""What an execution profile changes in a model's config, and why.

A profile is a whole config beside the usual one, `configs/PROFILE.pbtxt`, which Triton reads with
`--model-config-name=PROFILE`; models that have none are loaded as they are. So `config.pbtxt` stays
what stock Triton loads anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf import text_format  # type: ignore[import-untyped]

from lipsync_preprocessing.errors import RepositoryError
from lipsync_preprocessing.networks import AUDIO_SHAPE, FACE, MEL_SHAPE

ONNXRUNTIME, OPENVINO_F32, OPENVINO_BF16 = "onnxruntime", "openvino-f32", "openvino-bf16"
CUDA, TENSORRT_FP16 = "cuda", "tensorrt-fp16"
CPU_PROFILES = (ONNXRUNTIME, OPENVINO_F32, OPENVINO_BF16)
GPU_PROFILES = (CUDA, TENSORRT_FP16)
PROFILES = CPU_PROFILES + GPU_PROFILES

UNMEASURED = "Not measured: no GPU was at hand when these settings were chosen."

GENERATOR_ROLE, ENCODER_ROLE, COMPOSITOR_ROLE = "generator", "encoder", "compositor"

# Batches to warm up: a client's chunks, and what the batcher makes of several. An encoder sees fifteen
# windows more than there are frames.
_FRAMES = (1, 2, 4, 8, 16, 32)
_WINDOWS = tuple(frames + 15 for frames in _FRAMES)
# Where TensorRT's part of the compiled generator may begin: it takes no uint8 weights, so not at the
# inputs, and every tensor that crosses into it needs its shapes. Those it does not meet are ignored.
GENERATOR_SHAPES: dict[str, tuple[int, ...]] = {
    "loop_index": (1,),
    "audio": AUDIO_SHAPE,
    "frame": (),
    "pixels": (3, FACE, FACE),
    "levels": (3, FACE, FACE),
    "face": (3, FACE, FACE),
    "masked": (3, FACE, FACE),
    "face_out": (6, FACE, FACE),
}
ENCODER_SHAPES: dict[str, tuple[int, ...]] = {"mel": MEL_SHAPE}
_WORKSPACE_BYTES = 4 << 30
_NO_GPU_NO_LOAD = "the GPU, or no load"
_IN_TURN = (
    f"{_NO_GPU_NO_LOAD}; with --rate-limit=execution_count the avatars' generators take turns"
)
# What a generator takes while it executes, where tritonserver runs with --rate-limit=execution_count: one
# of as many as there are on the GPU, one by default.
_TURN = 'rate_limiter { resources { name: "lipsync_generator" count: 1 } priority: 1 }'
# Fewer nodes than this stay with CUDA: the arithmetic of the frame number is not worth an engine.
_SMALLEST_ENGINE_NODES = 20


@dataclass(frozen=True)
class Settings:
    """What a profile leaves open.

    Attributes:
        threads: of ONNX Runtime for one frame; 1 runs as many frames at once as there are cores.
        generators: instances of the generator, on each GPU or on the CPU.
        compositors: instances of the compositor, a process each with a frame cache of its own.
        visual_cache_mb: memory of OpenVINO's cache of the network's visual half; 0 for none.
        gpu_memory_mb: most that CUDA's arena may take for the generator.
        engine_cache: folder for TensorRT's engines and timings.
    """

    threads: int = 1
    generators: int = 1
    compositors: int = 1
    visual_cache_mb: int = 0
    gpu_memory_mb: int = 16384
    engine_cache: str = "/var/cache/lipsync"


@dataclass(frozen=True)
class Change:
    """One difference from the usual config.

    Attributes:
        field: dotted name of what goes first; None if `text` only adds.
        text: config text that comes in its place.
        why: a line for the reader.
    """

    field: str | None
    text: str
    why: str


def overlay(profile: str, role: str, config: Any, settings: Settings) -> list[Change]:
    """The changes of a profile to one of an avatar's models; none if it stays as it is.

    Args:
        role: "generator", "encoder" or "compositor".
        config: the model's usual config.
    """
    if role == COMPOSITOR_ROLE:
        return _compositor(config, settings)
    if profile in CPU_PROFILES:
        return _cpu(profile, role, settings)
    if profile in GPU_PROFILES:
        return _gpu(profile, role, config, settings)
    raise RepositoryError(f"profile {profile!r}: expected one of {', '.join(PROFILES)}")


def apply(config: Any, changes: Iterable[Change]) -> Any:
    """A copy of the config with the changes made."""
    result = type(config)()
    result.CopyFrom(config)
    for change in changes:
        if change.field is not None:
            *path, last = change.field.split(".")
            part = result
            for name in path:
                part = getattr(part, name)
            part.ClearField(last)
        text_format.Merge(change.text, result)
    return result


def _compositor(config: Any, settings: Settings) -> list[Change]:
    count = settings.compositors
    if sum(group.count for group in config.instance_group) == count:
        return []
    why = f"{count} processes paste and encode, each with a frame cache of its own"
    return [_instances("KIND_CPU", count, why)]


def _cpu(profile: str, role: str, settings: Settings) -> list[Change]:
    count = settings.generators if role == GENERATOR_ROLE else 1
    changes = [_instances("KIND_CPU", count, "the CPU, whatever else is there")]
    if profile == ONNXRUNTIME:
        threads = settings.threads if role == GENERATOR_ROLE else 1
        why = f"{threads} of ONNX Runtime's threads for a frame"
        return [*changes, _parameter("intra_op_thread_count", threads, why)]
    # The encoder takes a hundredth of the time: its rounding would go into every frame for nothing.
    precision = "bf16" if (profile, role) == (OPENVINO_BF16, GENERATOR_ROLE) else "f32"
    parameters = {"precision": precision}
    why = f"OpenVINO in {precision}, where the embedded server finds it installed"
    if role == GENERATOR_ROLE and settings.visual_cache_mb:
        parameters["visual_cache_mb"] = str(settings.visual_cache_mb)
        why += f"; {settings.visual_cache_mb} MiB keep what depends on the avatar's frame alone"
    return [*changes, _accelerator("cpu", "openvino", parameters, why)]


def _gpu(profile: str, role: str, config: Any, settings: Settings) -> list[Change]:
    generator = role == GENERATOR_ROLE
    most = config.max_batch_size
    batches = [n for n in (_FRAMES if generator else _WINDOWS) if n <= most]
    memory = settings.gpu_memory_mb if generator else max(settings.gpu_memory_mb // 8, 1)
    changes = [
        _instances("KIND_GPU", settings.generators, _IN_TURN, _TURN)
        if generator
        else _instances("KIND_GPU", 1, _NO_GPU_NO_LOAD),
        # As the backend of 24.10 reads it. The same numbers under gpu_execution_accelerator are ignored
        # (server#8808), and the exhaustive search comes again with every new shape (onnxruntime#6978).
        _parameter("cudnn_conv_algo_search", 1, "HEURISTIC: no search at each new batch size"),
        _parameter("gpu_mem_limit", memory << 20, f"CUDA's arena: {memory} MiB at most"),
        _parameter("arena_extend_strategy", 1, "kSameAsRequested: it grows by what is needed"),
        _warm_up(config, batches),
    ]
    if profile == TENSORRT_FP16:
        shapes = GENERATOR_SHAPES if generator else ENCODER_SHAPES
        why = f"TensorRT in FP16 for 1 to {most} at once; its engines are kept in {settings.engine_cache}"
        parameters = {
            "precision_mode": "FP16",
            "max_workspace_size_bytes": str(_WORKSPACE_BYTES),
            "trt_min_subgraph_size": str(_SMALLEST_ENGINE_NODES),
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": settings.engine_cache,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": settings.engine_cache,
            "trt_profile_min_shapes": _shapes(shapes, 1),
            "trt_profile_opt_shapes": _shapes(shapes, max(1, most // 2)),
            "trt_profile_max_shapes": _shapes(shapes, most),
        }
        changes.append(_accelerator("gpu", "tensorrt", parameters, why))
    return changes


def _instances(kind: str, count: int, why: str, more: str = "") -> Change:
    text = f"instance_group {{ kind: {kind} count: {count} {more} }}"
    return Change("instance_group", text, why)


def _parameter(name: str, value: int, why: str) -> Change:
    text = f'parameters {{ key: "{name}" value {{ string_value: "{value}" }} }}'
    return Change(None, text, f"{name}: {why}")


def _accelerator(kind: str, name: str, parameters: dict[str, str], why: str) -> Change:
    pairs = " ".join(
        f'parameters {{ key: "{k}" value: {json.dumps(v)} }}' for k, v in parameters.items()
    )
    text = f'{kind}_execution_accelerator {{ name: "{name}" {pairs} }}'
    text = f"optimization {{ execution_accelerators {{ {text} }} }}"
    return Change("optimization.execution_accelerators", text, why)


def _warm_up(config: Any, batches: list[int]) -> Change:
    """Each batch size once before the model reads as ready: what a shape costs once is paid then."""
    inputs = ""
    for port in config.input:
        kind = type(config).DESCRIPTOR.file.enum_types_by_name["DataType"]
        data_type = kind.values_by_number[port.data_type].name
        dims = ", ".join(str(d) for d in port.dims)
        value = f"data_type: {data_type} dims: [ {dims} ] zero_data: true"
        inputs += f'inputs {{ key: "{port.name}" value {{ {value} }} }} '
    samples = [f'model_warmup {{ name: "{n}" batch_size: {n} {inputs}}}' for n in batches]
    why = f"batches of {', '.join(map(str, batches))} have run before the model is ready"
    return Change("model_warmup", "\n".join(samples), why)


def _shapes(shapes: dict[str, tuple[int, ...]], batch: int) -> str:
    texts = {name: "x".join(map(str, (batch, *shape))) for name, shape in shapes.items()}
    return ",".join(f"{name}:{text}" for name, text in texts.items())
