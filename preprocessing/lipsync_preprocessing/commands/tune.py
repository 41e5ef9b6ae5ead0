"""lipsync-avatar tune."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import click

from lipsync_preprocessing.commands.common import network_width, repository_option, say
from lipsync_preprocessing.profiles.settings import (
    GPU_PROFILES,
    ONNXRUNTIME,
    PROFILES,
    TENSORRT_FP16,
    UNMEASURED,
    ProfileSettings,
)

_AUTO = "auto"
_GPU_COMPOSITORS = 4


@click.command()
@click.argument("name")
@click.option(
    "--profile",
    required=True,
    type=click.Choice([_AUTO, *PROFILES]),
    help="auto: the fastest exact one on this machine's CPU.",
)
@click.option(
    "--width",
    type=network_width,
    metavar="1/2|1/4",
    help="Serve the student of this width (lipsync-avatar distil) in place of the avatar's own generator.",
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
    "--seconds", type=click.FloatRange(0.5, 60), default=2.0, help="Length of the measured clip."
)
@click.option(
    "--compositors",
    type=click.IntRange(1),
    metavar="N",
    help=f"GPU: processes that paste and encode.  [default: {_GPU_COMPOSITORS}]",
)
@click.option(
    "--gpu-memory-mb",
    type=click.IntRange(1),
    metavar="MB",
    help=f"GPU: limit of the generator's arena.  [default: {ProfileSettings.gpu_memory_mb}]",
)
@click.option(
    "--engine-cache",
    metavar="DIR",
    help="TensorRT: folder, where Triton runs, for engines and timings."
    f"  [default: {ProfileSettings.engine_cache}]",
)
@click.option(
    "--live-sessions",
    type=click.IntRange(1),
    metavar="N",
    help="Live sessions at 25 fps that a server carries.  [default: measured on a CPU]",
)
@repository_option
def tune(
    repository: Path,
    name: str,
    profile: str,
    width: Fraction | None,
    removing: bool,
    visual_cache_mb: int | None,
    psnr_floor: float,
    seconds: float,
    compositors: int | None,
    gpu_memory_mb: int | None,
    engine_cache: str | None,
    live_sessions: int | None,
) -> None:
    """Write an execution profile of the avatar NAME, for servers started with --profile.

    The settings of a CPU's profile are measured on this machine first; a GPU's are fixed.
    """
    from lipsync_preprocessing.profiles import files
    from lipsync_preprocessing.profiles import tune as tuning
    from lipsync_preprocessing.profiles.live_sessions import live_sessions_line
    from lipsync_preprocessing.repository import Repository
    from lipsync_preprocessing.repository.students import student_of, width_name

    gpu = profile in GPU_PROFILES
    _only_for("a GPU's profiles", gpu, compositors=compositors, gpu_memory_mb=gpu_memory_mb)
    _only_for("tensorrt-fp16", profile == TENSORRT_FP16, engine_cache=engine_cache)
    _only_for(
        "OpenVINO's profiles", not gpu and profile != ONNXRUNTIME, visual_cache_mb=visual_cache_mb
    )
    if removing:
        if profile == _AUTO:
            raise click.UsageError("--remove expects the profile's own name, not auto")
        written = profile if width is None else f"{profile}-{width_name(width)}"
        paths = files.remove_profile(repository, name, written)
        say(f"{name}: removed {', '.join(_below(repository, paths))}")
        return
    students = Repository(repository).avatar(name).students
    student = None if width is None else student_of(name, students, width)
    usual = ProfileSettings()
    settings = ProfileSettings(
        compositors=compositors or (_GPU_COMPOSITORS if gpu else usual.compositors),
        visual_cache_mb=visual_cache_mb or usual.visual_cache_mb,
        gpu_memory_mb=gpu_memory_mb or usual.gpu_memory_mb,
        engine_cache=engine_cache or usual.engine_cache,
        live_sessions=live_sessions,
    )
    if gpu:
        say(live_sessions_line(live_sessions, "a GPU is not measured: --live-sessions sets it"))
        paths = files.write_profile(repository, name, profile, settings, UNMEASURED, student)
    else:
        paths = tuning.tune(
            repository,
            name,
            profile,
            settings,
            psnr_floor_db=psnr_floor,
            seconds=seconds,
            student=student,
            say=say,
        )
    say(f"{name}: wrote {', '.join(_below(repository, paths))}")
    say(f"lipsync-server --profile {paths[0].stem}")


def _only_for(what: str, applies: bool, **options: object) -> None:
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if given and not applies:
        raise click.UsageError(f"{given[0]} is an option of {what}")


def _below(repository: Path, paths: list[Path]) -> list[str]:
    return [str(path.relative_to(repository.resolve())) for path in paths]
