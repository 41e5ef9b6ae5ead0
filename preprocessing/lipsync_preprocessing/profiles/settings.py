"""The names of the profiles, and what they leave open."""

from __future__ import annotations

from dataclasses import dataclass

ONNXRUNTIME, OPENVINO_F32, OPENVINO_BF16 = "onnxruntime", "openvino-f32", "openvino-bf16"
CUDA, TENSORRT_FP16 = "cuda", "tensorrt-fp16"
CPU_PROFILES = (ONNXRUNTIME, OPENVINO_F32, OPENVINO_BF16)
GPU_PROFILES = (CUDA, TENSORRT_FP16)
PROFILES = CPU_PROFILES + GPU_PROFILES

UNMEASURED = "Not measured: no GPU was at hand when these settings were chosen."


@dataclass(frozen=True)
class ProfileSettings:
    """Settings of a profile.

    Attributes:
        threads: of ONNX Runtime for one frame; with 1, as many frames as there are cores run at once.
        generators: instances of the generator, on each GPU or on the CPU.
        compositors: instances of the compositor, each a process; they share the decoded frames.
        visual_cache_mb: memory of OpenVINO's cache of the network's visual half; 0 for none.
        gpu_memory_mb: limit of CUDA's arena for the generator.
        engine_cache: folder for TensorRT's engines and timings.
        live_sessions: live sessions at 25 frames per second that a server carries; None if nobody knows.
    """

    threads: int = 1
    generators: int = 1
    compositors: int = 1
    visual_cache_mb: int = 0
    gpu_memory_mb: int = 16384
    engine_cache: str = "/var/cache/lipsync"
    live_sessions: int | None = None
