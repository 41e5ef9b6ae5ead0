"""Model repositories for the benchmark, made from the project's own."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import onnx

from lipsync_preprocessing.avatar import fill_template
from lipsync_preprocessing.graphs.networks import plain_generator, prepare_generator
from lipsync_preprocessing.profiles.files import write_profile
from lipsync_preprocessing.profiles.settings import OPENVINO_BF16, OPENVINO_F32, ProfileSettings
from lipsync_preprocessing.repository import (
    RAW,
    Repository,
    configs,
    set_parameter,
    write_config,
)

# The profiles that are measured, and the MiB that keep every frame's visual half of the true-size generator.
PROFILES = {OPENVINO_F32: 1024, OPENVINO_BF16: 512}


def write_profiles(repository: Path, avatar: str) -> None:
    """Write the avatar's PROFILES, as `lipsync-avatar tune` writes them."""
    for profile, cache_mb in PROFILES.items():
        write_profile(repository, avatar, profile, ProfileSettings(visual_cache_mb=cache_mb))


def build_repository(
    source: Path, avatar: str, dataset: Path, generator: Path, encoder: Path, target: Path
) -> None:
    """Copy a repository and fill the avatar's template in the copy, with PROFILES.

    Nothing is done if an earlier call built the same from the same files.
    """
    unbuilt = [
        p for p in sorted(source.rglob("*")) if p.is_file() and p.suffix in (".py", ".pbtxt")
    ]
    digest = hashlib.sha256()
    for path in [*unbuilt, generator, encoder]:
        digest.update(path.read_bytes())
    stamp = target / "built-from.sha256"
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return
    shutil.rmtree(target, ignore_errors=True)
    built = shutil.ignore_patterns("*.onnx", "*.npz", "__pycache__", "configs", ".built-from")
    shutil.copytree(source, target, ignore=built)
    fill_template(target, avatar, dataset, generator, encoder)
    write_profiles(target, avatar)
    stamp.write_text(digest.hexdigest())


def write_raw_repository(
    repository: Path, avatar: str, generator: Path, target: Path, *, threads: int
) -> None:
    """Write a repository of the plain 99.onnx alone, as `lipsync-avatar add --raw` serves it.

    Args:
        threads: ONNX Runtime's threads for one frame. The service computes the frames of a batch side by
            side with one thread each; a caller that sends one frame at a time, as the earlier systems did,
            would leave all cores but one idle.
    """
    name = avatar + RAW
    shutil.rmtree(target, ignore_errors=True)
    directory = target / name
    (directory / "1").mkdir(parents=True)
    configs.write_raw(Repository(repository), avatar, avatar, directory)
    config = Repository(target).config(name)
    set_parameter(config, "intra_op_thread_count", threads)
    write_config(directory, config)
    plain = plain_generator(prepare_generator(onnx.load(str(generator))))
    onnx.save(plain, str(directory / "1/model.onnx"))
