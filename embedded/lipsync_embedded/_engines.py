"""The engines of a server's ONNX models, read from its log, and advice about an unused GPU."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

# backends/onnxruntime/model.py logs this line for each instance.
_LINE = re.compile(r"([\w-]+): ((?:ONNX Runtime|OpenVINO) [^\"]+)")
_DRIVER = Path("/proc/driver/nvidia/version")


def engines_in(log: Iterable[str]) -> dict[str, str]:
    """Return the engine of each model, such as "ONNX Runtime 1.31.1, CPUExecutionProvider, 2 x 1 threads"."""
    matches = (_LINE.search(line.rstrip()) for line in log)
    return {match[1]: match[2] for match in matches if match}


def engines_line(engines: dict[str, str]) -> str:
    """Return one line that names each engine once, with its models."""
    models: dict[str, list[str]] = {}
    for model, engine in sorted(engines.items()):
        models.setdefault(engine, []).append(model)
    return "; ".join(f"{engine}: {' '.join(names)}" for engine, names in models.items())


def idle_gpu_advice(engines: dict[str, str]) -> str | None:
    """Return advice about an NVIDIA GPU that no model runs on; None if there is none, or it is used."""
    if not engines or not (shutil.which("nvidia-smi") or _DRIVER.exists()):
        return None
    if any("CUDA" in engine or "Tensorrt" in engine for engine in engines.values()):
        return None
    import onnxruntime

    fallen = "this machine has an NVIDIA GPU, but the models run on the CPU: "
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return (
            fallen
            + "ONNX Runtime could not start CUDA. Its libraries or the driver do not fit: the server's"
            " log (--log-file) says which; pip install 'onnxruntime-gpu[cuda,cudnn]' brings the libraries"
        )
    # Both wheels are one Python package: without the last step the CPU's removal leaves half of it.
    return (
        fallen + "this ONNX Runtime has no CUDA. In an environment for this machine:"
        " pip install 'lipsync-triton[gpu]' && pip uninstall --yes onnxruntime"
        " && pip install --force-reinstall --no-deps onnxruntime-gpu"
    )
