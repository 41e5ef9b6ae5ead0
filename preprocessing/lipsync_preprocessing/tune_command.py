"""lipsync-avatar tune."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lipsync_preprocessing.options import failing_in_one_line, repository_option


@click.command()
@click.argument("name")
@click.option(
    "--profile",
    required=True,
    type=click.Choice(
        ["auto", "onnxruntime", "openvino-f32", "openvino-bf16", "cuda", "tensorrt-fp16"]
    ),
    help="auto: the fastest exact one on this machine's CPU.",
)
@click.option("--remove", "removing", is_flag=True, help="Remove the profile instead.")
@click.option(
    "--visual-cache-mb",
    type=click.IntRange(0),
    metavar="MB",
    help="OpenVINO: keep what depends on the avatar's frame alone.",
)
@click.option(
    "--psnr-floor", type=float, default=50.0, metavar="DB", help="Refuse bf16 below this."
)
@click.option(
    "--seconds", type=click.FloatRange(0.5, 60), default=2.0, help="Of sound, to measure with."
)
@click.option(
    "--compositors",
    type=click.IntRange(1),
    metavar="N",
    help="GPU: processes that paste and encode.  [default: 4]",
)
@click.option(
    "--gpu-memory-mb",
    type=click.IntRange(1),
    metavar="MB",
    help="GPU: most for the generator's arena.  [default: 16384]",
)
@click.option(
    "--engine-cache",
    metavar="DIR",
    help="TensorRT: folder, where Triton runs, for engines and timings.  [default: /var/cache/lipsync]",
)
@repository_option
@failing_in_one_line
def tune(
    repository: Path,
    name: str,
    profile: str,
    removing: bool,
    visual_cache_mb: int | None,
    psnr_floor: float,
    seconds: float,
    compositors: int | None,
    gpu_memory_mb: int | None,
    engine_cache: str | None,
) -> None:
    """Write an execution profile of the avatar NAME, for servers started with --profile.

    A CPU's profiles are measured on this machine first; a GPU's are written as they are.
    """
    from lipsync_preprocessing import overlays, profiles
    from lipsync_preprocessing import tune as tuning

    gpu = profile in overlays.GPU_PROFILES
    _only_for("a GPU's profiles", gpu, compositors=compositors, gpu_memory_mb=gpu_memory_mb)
    _only_for("tensorrt-fp16", profile == overlays.TENSORRT_FP16, engine_cache=engine_cache)
    _only_for(
        "OpenVINO's profiles", not gpu and profile != "onnxruntime", visual_cache_mb=visual_cache_mb
    )
    if removing:
        if profile == tuning.AUTO:
            raise click.UsageError("--remove wants the profile's own name, not auto")
        paths = profiles.remove_profile(repository, name, profile)
        click.echo(f"{name}: removed {', '.join(_below(repository, paths))}")
        return
    given: dict[str, Any] = {
        "visual_cache_mb": visual_cache_mb,
        "compositors": compositors or (4 if gpu else None),
        "gpu_memory_mb": gpu_memory_mb,
        "engine_cache": engine_cache,
    }
    settings = overlays.Settings(**{k: v for k, v in given.items() if v is not None})
    if gpu:
        paths = profiles.write_profile(repository, name, profile, settings, overlays.UNMEASURED)
    else:
        paths = tuning.tune(
            repository,
            name,
            profile,
            settings,
            psnr_floor_db=psnr_floor,
            seconds=seconds,
            say=click.echo,
        )
    click.echo(f"{name}: wrote {', '.join(_below(repository, paths))}")
    click.echo(f"lipsync-server --profile {paths[0].stem}")


def _only_for(what: str, applies: bool, **options: object) -> None:
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if given and not applies:
        raise click.UsageError(f"{given[0]} is for {what}")


def _below(repository: Path, paths: list[Path]) -> list[str]:
    return [str(path.relative_to(repository.resolve())) for path in paths]
