"""The accelerator that a model's config asks for on a CPU.

optimization { execution_accelerators { cpu_execution_accelerator [ {
  name: "openvino"
  parameters { key: "precision" value: "bf16" }        # or f32, the default
  parameters { key: "visual_cache_mb" value: "512" }   # 0, the default, keeps nothing
} ] } }
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config_error import ConfigError

PRECISIONS = ("f32", "bf16")
_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class OpenVino:
    """Settings of OpenVINO for one model.

    Attributes:
        precision: of the arithmetic, "f32" or "bf16".
        visual_cache_mb: MiB for what depends on the avatar's frame alone; 0 computes it each time.
    """

    precision: str = "f32"
    visual_cache_mb: int = 0


def wanted_openvino(optimization: dict[str, Any]) -> OpenVino | None:
    """Return OpenVINO's settings, or None where the config does not ask for it.

    A config that names it fails to load without it, as it would on the native backend.

    Raises:
        ConfigError: an accelerator, a parameter or a value that is not known, or what this machine lacks.
    """
    accelerators = optimization.get("execution_accelerators", {}).get(
        "cpu_execution_accelerator", []
    )
    if len(accelerators) > 1:
        raise ConfigError(
            f"expected at most one cpu_execution_accelerator, got {len(accelerators)}"
        )
    if not accelerators:
        return None
    settings = _settings(accelerators[0])
    if importlib.util.find_spec("openvino") is None:
        raise ConfigError("OpenVINO is asked for, but not installed: pip install openvino")
    if settings.precision == "bf16" and not cpu_has_bf16():
        raise ConfigError(
            "precision bf16 is asked for, but this CPU lacks it (avx512_bf16 or amx_bf16): ask for f32"
        )
    return settings


def cpu_has_bf16() -> bool:
    """Return whether the processor multiplies bf16. OpenVINO would imitate it on others, slower than f32."""
    for line in _CPU_INFO.read_text().splitlines():
        if line.startswith("flags"):
            return not _BF16_FLAGS.isdisjoint(line.split())
    return False


def _settings(accelerator: dict[str, Any]) -> OpenVino:
    name = accelerator["name"]
    if name != "openvino":
        raise ConfigError(f"unknown cpu_execution_accelerator {name!r}: there is only openvino")
    parameters: dict[str, str] = dict(accelerator.get("parameters", {}))
    precision = parameters.pop("precision", OpenVino.precision)
    if precision not in PRECISIONS:
        raise ConfigError(
            f"openvino's precision must be one of {', '.join(PRECISIONS)}, got {precision!r}"
        )
    megabytes = parameters.pop("visual_cache_mb", str(OpenVino.visual_cache_mb))
    if not megabytes.isdecimal():
        raise ConfigError(f"openvino's visual_cache_mb must be a number of MiB, got {megabytes!r}")
    if parameters:
        raise ConfigError(
            f"unknown parameter {min(parameters)!r} of openvino: there are precision, visual_cache_mb"
        )
    return OpenVino(precision, int(megabytes))
