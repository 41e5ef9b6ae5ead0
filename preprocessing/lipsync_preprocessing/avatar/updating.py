"""Versions of an avatar's generator: a new checkpoint becomes the next Triton version."""

from __future__ import annotations

from pathlib import Path

import onnx

from lipsync_preprocessing.avatar.pack import map_faces, write_faces
from lipsync_preprocessing.errors import RepositoryError
from lipsync_preprocessing.graphs.compile import write_compiled_generator
from lipsync_preprocessing.graphs.networks import plain_generator
from lipsync_preprocessing.graphs.sources import load_generator
from lipsync_preprocessing.repository import GENERATOR, RAW, Repository


def update_generator(repository: str | Path, name: str, generator_path: str | Path) -> int:
    """Add a version to NAME_generator (and NAME_raw); return its number.

    The faces come from the avatar's frame pack. A server takes the newest version when it loads the
    model again, and finishes the requests in flight with the old one, which stays on disk.
    """
    store = Repository(repository)
    avatar = store.avatar(name)
    generator = load_generator(generator_path)
    models = [name + GENERATOR, *([name + RAW] if avatar.raw else [])]
    version = max((v for m in models for v in store.versions(m)), default=0) + 1
    with store.changing() as scratch:
        faces = scratch / "faces.raw"
        write_faces(store.pack(name), faces)
        for model in models:
            (scratch / model).mkdir()
        write_compiled_generator(generator, map_faces(faces), scratch / models[0] / "model.onnx")
        if avatar.raw:
            onnx.save(plain_generator(generator), str(scratch / models[1] / "model.onnx"))
        for model in models:
            (scratch / model).rename(store.directory(model) / str(version))
    return version


def prune_versions(repository: str | Path, name: str) -> list[int]:
    """Delete all versions of the generator but the newest; return the deleted ones."""
    return _drop(repository, name, newest=False)


def roll_back(repository: str | Path, name: str) -> list[int]:
    """Delete the newest version of the generator, so that the previous one is served again."""
    return _drop(repository, name, newest=True)


def _drop(repository: str | Path, name: str, *, newest: bool) -> list[int]:
    store = Repository(repository)
    avatar = store.avatar(name)
    models = [name + GENERATOR, *([name + RAW] if avatar.raw else [])]
    versions = avatar.versions
    if newest and len(versions) < 2:
        raise RepositoryError(
            f"{store.directory(models[0])}: expected an older version to go back to, got only"
            f" {', '.join(map(str, versions)) or 'none'}"
        )
    dropped = versions[-1:] if newest else versions[:-1]
    with store.changing() as scratch:
        for model in models:
            for version in dropped:
                path = store.directory(model) / str(version)
                if path.is_dir():
                    path.rename(scratch / f"{model}.{version}")
    return list(dropped)
