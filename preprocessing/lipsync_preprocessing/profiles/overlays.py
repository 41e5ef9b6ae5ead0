"""The changes that an execution profile makes in a model's config, with their reasons.

A profile is a whole config beside the usual one, `configs/PROFILE.pbtxt`, which Triton reads with
`--model-config-name=PROFILE`; models without one are loaded as usual. So `config.pbtxt` stays what stock
Triton loads anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from lipsync_preprocessing.errors import RepositoryError
from lipsync_preprocessing.profiles import tensorrt
from lipsync_preprocessing.profiles.settings import (
    CPU_PROFILES,
    GPU_PROFILES,
    ONNXRUNTIME,
    OPENVINO_BF16,
    PROFILES,
    TENSORRT_FP16,
    ProfileSettings,
)
from lipsync_preprocessing.repository import set_parameter

GENERATOR_ROLE, ENCODER_ROLE, COMPOSITOR_ROLE = "generator", "encoder", "compositor"
ENSEMBLE_ROLE = "ensemble"

# Batch sizes to warm up: a client's chunks, and what the batcher makes of several. An encoder gets fifteen
# windows more than there are frames.
_FRAMES = (1, 2, 4, 8, 16, 32)
_WINDOWS = tuple(frames + 15 for frames in _FRAMES)
_NEEDS_GPU = "without a GPU the model does not load"
# A generator takes this resource while it executes, where tritonserver runs with
# --rate-limit=execution_count. There is as much of it as the greatest count, one, on each GPU.
_TURN = "lipsync_generator"


@dataclass(frozen=True)
class Change:
    """One difference from the usual config.

    Attributes:
        field: dotted name of the field that changes.
        why: a line for the reader of the file.
        make: makes the change in a config.
    """

    field: str
    why: str
    make: Callable[[ModelConfig], None]


def changes_of(
    profile: str, role: str, config: ModelConfig, settings: ProfileSettings
) -> list[Change]:
    """Return the changes of a profile to one of an avatar's models; none if it stays as it is.

    Args:
        profile: one of PROFILES.
        role: "generator", "encoder", "compositor" or "ensemble".
        config: the model's usual config.
        settings: what the profile leaves open.
    """
    if role == COMPOSITOR_ROLE:
        return _compositor(config, settings)
    if role == ENSEMBLE_ROLE:
        return _ensemble(settings)
    if profile in CPU_PROFILES:
        return _cpu(profile, role, settings)
    if profile in GPU_PROFILES:
        return _gpu(profile, role, config, settings)
    raise RepositoryError(f"profile {profile!r}: expected one of {', '.join(PROFILES)}")


def changed(config: ModelConfig, changes: Iterable[Change]) -> ModelConfig:
    """Return a copy of the config with the changes made."""
    result = ModelConfig()
    result.CopyFrom(config)
    for change in changes:
        change.make(result)
    return result


def _compositor(config: ModelConfig, settings: ProfileSettings) -> list[Change]:
    count = settings.compositors
    if sum(group.count for group in config.instance_group) == count:
        return []
    why = f"{count} processes paste and encode; they share the decoded frames"
    return [_instances(ModelInstanceGroup.KIND_CPU, count, why)]


def _ensemble(settings: ProfileSettings) -> list[Change]:
    count = settings.live_sessions
    if count is None:
        return []
    why = "a server carries so many at 25 frames per second; lipsync-web refuses more"
    return [_parameter("live_sessions", count, why)]


def _cpu(profile: str, role: str, settings: ProfileSettings) -> list[Change]:
    generator = role == GENERATOR_ROLE
    count = settings.generators if generator else 1
    changes = [_instances(ModelInstanceGroup.KIND_CPU, count, "the CPU, also where there is a GPU")]
    if profile == ONNXRUNTIME or not generator:
        # The encoder takes a hundredth of the time, and ONNX Runtime needs half of OpenVINO's memory for it.
        threads = settings.threads if generator else 1
        why = f"{threads} of ONNX Runtime's threads for {'a frame' if generator else 'a window'}"
        return [*changes, _parameter("intra_op_thread_count", threads, why)]
    precision = "bf16" if profile == OPENVINO_BF16 else "f32"
    parameters = {"precision": precision}
    why = f"OpenVINO in {precision}, where the embedded server finds it installed"
    if settings.visual_cache_mb:
        parameters["visual_cache_mb"] = str(settings.visual_cache_mb)
        why += f"; {settings.visual_cache_mb} MiB keep what depends on the avatar's frame alone"
    return [*changes, _accelerator("cpu", "openvino", parameters, why)]


def _gpu(profile: str, role: str, config: ModelConfig, settings: ProfileSettings) -> list[Change]:
    generator = role == GENERATOR_ROLE
    most = config.max_batch_size
    batches = [n for n in (_FRAMES if generator else _WINDOWS) if n <= most]
    memory = settings.gpu_memory_mb if generator else max(settings.gpu_memory_mb // 8, 1)
    why = _NEEDS_GPU
    if generator:
        why += "; with --rate-limit=execution_count the avatars' generators take turns"
    changes = [
        _instances(
            ModelInstanceGroup.KIND_GPU,
            settings.generators if generator else 1,
            why,
            takes_turns=generator,
        ),
        # As release 24.10's backend reads it. The same numbers under gpu_execution_accelerator are ignored
        # (server#8808), and the exhaustive search repeats for every new shape (onnxruntime#6978).
        _parameter("cudnn_conv_algo_search", 1, "HEURISTIC: no search at each new batch size"),
        _parameter("gpu_mem_limit", memory << 20, f"CUDA's arena: {memory} MiB at most"),
        _parameter("arena_extend_strategy", 1, "kSameAsRequested: it grows by what is needed"),
        _warm_up(batches),
    ]
    if profile == TENSORRT_FP16:
        shapes = tensorrt.GENERATOR_SHAPES if generator else tensorrt.ENCODER_SHAPES
        parameters = tensorrt.parameters(shapes, most, settings.engine_cache)
        why = (
            f"TensorRT in FP16 for 1 to {most} at once; its engines are kept in"
            f" {settings.engine_cache}"
        )
        changes.append(_accelerator("gpu", "tensorrt", parameters, why))
    return changes


def _instances(kind: int, count: int, why: str, *, takes_turns: bool = False) -> Change:
    def make(config: ModelConfig) -> None:
        config.ClearField("instance_group")
        group = config.instance_group.add(kind=kind, count=count)
        if takes_turns:
            group.rate_limiter.resources.add(name=_TURN, count=1)
            group.rate_limiter.priority = 1

    return Change("instance_group", why, make)


def _parameter(name: str, value: int, why: str) -> Change:
    return Change("parameters", f"{name}: {why}", lambda config: set_parameter(config, name, value))


def _accelerator(kind: str, name: str, parameters: Mapping[str, str], why: str) -> Change:
    def make(config: ModelConfig) -> None:
        config.optimization.ClearField("execution_accelerators")
        accelerators = config.optimization.execution_accelerators
        field = getattr(accelerators, f"{kind}_execution_accelerator")
        field.add(name=name, parameters=parameters)

    return Change("optimization.execution_accelerators", why, make)


def _warm_up(batches: list[int]) -> Change:
    def make(config: ModelConfig) -> None:
        config.ClearField("model_warmup")
        for batch in batches:
            sample = config.model_warmup.add(name=str(batch), batch_size=batch)
            for port in config.input:
                tensor = sample.inputs[port.name]
                tensor.data_type, tensor.zero_data = port.data_type, True
                tensor.dims.extend(port.dims)

    why = f"batches of {', '.join(map(str, batches))} have run before the model is ready"
    return Change("model_warmup", why, make)
