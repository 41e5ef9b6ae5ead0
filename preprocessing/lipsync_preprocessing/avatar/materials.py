"""The inputs of an avatar: read, tried, and written as the data of its models."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lipsync_preprocessing.avatar.pack import map_faces, write_pack
from lipsync_preprocessing.contract import FACE
from lipsync_preprocessing.dataset import Dataset, DatasetOptions, read_dataset
from lipsync_preprocessing.dataset.types import Progress
from lipsync_preprocessing.errors import RepositoryError
from lipsync_preprocessing.graphs.compile import write_compiled_generator
from lipsync_preprocessing.graphs.networks import Generator
from lipsync_preprocessing.graphs.sources import AudioEncoder, load_audio_encoder, load_generator

Report = Callable[[str, int, int], None]
"""Called with what is being done, the number of steps done, and of all steps."""


@dataclass(frozen=True)
class Materials:
    """The inputs of an avatar; the dataset's frames are read when they are written."""

    dataset: Dataset
    generator: Generator
    encoder: AudioEncoder


def read_materials(
    dataset_dir: str | Path,
    generator_path: str | Path,
    encoder_path: str | Path,
    options: DatasetOptions | None,
) -> Materials:
    """Read everything but the frames, and run both networks once; the quick checks come first.

    Raises:
        AvatarError: an input cannot be used.
    """
    dataset = read_dataset(dataset_dir, options)
    encoder = load_audio_encoder(encoder_path)
    return Materials(dataset, load_generator(generator_path), encoder)


def check_room(root: Path, materials: Materials) -> None:
    """Raise RepositoryError if the disk has no room for the import.

    At the peak, faces and frames are on the disk twice.
    """
    faces = len(materials.dataset) * FACE * FACE * 3
    source = materials.dataset.directory / materials.dataset.frames
    files = source.iterdir() if source.is_dir() else [source]
    frames = sum(file.stat().st_size for file in files)
    needed = 2 * faces + 2 * frames + 2 * int(materials.generator.model.ByteSize())
    free = shutil.disk_usage(root).free
    if needed > free:
        raise RepositoryError(
            f"{root}: expected {needed >> 20} MiB of free disk for the import, got {free >> 20}"
        )


def write_data(
    materials: Materials, pack: Path, model: Path, scratch: Path, report: Report | None
) -> None:
    """Write the frame pack and the compiled generator; raise DatasetError at a frame that is unusable."""
    faces = scratch / "faces.raw"
    write_pack(
        materials.dataset, pack, faces, _progress(report, f"packing {materials.dataset.frames}")
    )
    compiling = _progress(report, "compiling") or (lambda _done, _total: None)
    compiling(0, 1)
    write_compiled_generator(materials.generator, map_faces(faces), model)
    faces.unlink()
    compiling(1, 1)


def _progress(report: Report | None, what: str) -> Progress | None:
    if report is None:
        return None
    return lambda done, total: report(what, done, total)
