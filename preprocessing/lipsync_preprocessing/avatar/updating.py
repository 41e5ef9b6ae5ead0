"""Versions of an avatar's generator: a new checkpoint becomes the next Triton version."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import onnx

from lipsync_preprocessing.avatar.pack import map_faces, write_faces
from lipsync_preprocessing.errors import RepositoryError
from lipsync_preprocessing.graphs.compile import write_compiled_generator
from lipsync_preprocessing.graphs.networks import plain_generator
from lipsync_preprocessing.graphs.sources import load_generator
from lipsync_preprocessing.profiles.files import pin_versions
from lipsync_preprocessing.repository import (
    GENERATOR,
    RAW,
    STUDENT_CARD,
    InstalledAvatar,
    Repository,
)
from lipsync_preprocessing.repository.students import read_student, student_of


def update_generator(repository: str | Path, name: str, generator_path: str | Path) -> int:
    """Add a version to NAME_generator (and NAME_raw); return its number.

    The faces come from the avatar's frame pack. A server takes the newest version when it loads the
    model again, and finishes the requests in flight with the old one, which stays on disk.
    """
    store = Repository(repository)
    avatar = store.avatar(name)
    generator = load_generator(generator_path)
    models = _models(avatar)
    with store.changing() as scratch:
        version = next_version(store, avatar)
        faces = scratch / "faces.raw"
        write_faces(store.pack(name), faces)
        for model in models:
            (scratch / model).mkdir()
        write_compiled_generator(generator, map_faces(faces), scratch / models[0] / "model.onnx")
        if avatar.raw:
            onnx.save(plain_generator(generator), str(scratch / models[1] / "model.onnx"))
        for model in models:
            (scratch / model).rename(store.directory(model) / str(version))
        pin_versions(store, name, (*avatar.versions, version), avatar.students, scratch)
    return version


def next_version(store: Repository, avatar: InstalledAvatar) -> int:
    """Return the number of the next version of an avatar's generator."""
    return max((v for m in _models(avatar) for v in store.versions(m)), default=0) + 1


def add_student(repository: str | Path, name: str, folder: Path) -> int:
    """Copy a student into NAME_generator as its next version, which no usual config serves.

    Return the version's number.

    Args:
        repository: the model repository.
        name: of the avatar.
        folder: holds the compiled generator, model.onnx, and the card, student.json.

    Raises:
        RepositoryError: the avatar has another generator now, or its config chooses its versions by itself.
    """
    store = Repository(repository)
    with store.changing() as scratch:
        avatar = store.avatar(name)
        version = next_version(store, avatar)
        student = read_student(folder, version)
        if student is None:
            raise RepositoryError(f"{folder}: expected the card of a student, {STUDENT_CARD}")
        if avatar.versions[-1:] != (student.teacher,):
            raise RepositoryError(
                f"{name}: expected version {student.teacher} of the generator, which taught the student, to"
                f" be the newest, got {', '.join(map(str, avatar.versions)) or 'none'}; teach another student"
            )
        copied = scratch / "student"
        shutil.copytree(folder, copied)
        # The usual config is pinned before the student appears, its profiles afterwards.
        pin_versions(store, name, avatar.versions, avatar.students, scratch, students_on_disk=True)
        copied.rename(store.directory(name + GENERATOR) / str(version))
        pin_versions(store, name, avatar.versions, (*avatar.students, student), scratch)
    return version


def remove_students(repository: str | Path, name: str, width: Fraction) -> list[int]:
    """Delete the students of a width, and their profiles; return their versions.

    Raises:
        RepositoryError: the avatar has none of this width; the message lists those it has.
    """
    store = Repository(repository)
    avatar = store.avatar(name)
    newest = student_of(name, avatar.students, width)
    students = [s.version for s in avatar.students if s.width == newest.width]
    with store.changing() as scratch:
        return _drop(store, avatar, students, scratch)


def drop_students(store: Repository, name: str, teacher: int, scratch: Path) -> None:
    """Delete the students that a version taught, and their profiles. The caller holds the lock."""
    taught = [s.version for s in store.students(name + GENERATOR) if s.teacher == teacher]
    if taught:
        _drop(store, store.avatar(name), taught, scratch)


def prune_versions(repository: str | Path, name: str) -> list[int]:
    """Delete all versions of the generator but the newest; return the deleted ones.

    Of its students, the newest of each width stays, if the newest version taught it.
    """
    store = Repository(repository)
    avatar = store.avatar(name)
    current = [s for s in avatar.students if s.teacher in avatar.versions[-1:]]
    kept = {student.width: student.version for student in current}.values()
    others = [s.version for s in avatar.students if s.version not in kept]
    with store.changing() as scratch:
        return _drop(store, avatar, [*avatar.versions[:-1], *others], scratch)


def roll_back(repository: str | Path, name: str) -> list[int]:
    """Delete the newest version of the generator, so that the previous one is served again.

    The students that it taught go with it. Return the deleted versions, the generator's first.
    """
    store = Repository(repository)
    avatar = store.avatar(name)
    versions = avatar.versions
    if len(versions) < 2:
        raise RepositoryError(
            f"{store.directory(name + GENERATOR)}: expected an older version to go back to, got only"
            f" {', '.join(map(str, versions)) or 'none'}"
        )
    taught = [s.version for s in avatar.students if s.teacher == versions[-1]]
    with store.changing() as scratch:
        return _drop(store, avatar, [versions[-1], *taught], scratch)


def _drop(
    store: Repository, avatar: InstalledAvatar, dropped: list[int], scratch: Path
) -> list[int]:
    """Delete versions, after the configs serve others; return them. The caller holds the lock."""
    own = tuple(v for v in avatar.versions if v not in dropped)
    students = tuple(s for s in avatar.students if s.version not in dropped)
    there = bool(avatar.students)
    pin_versions(store, avatar.name, own, students, scratch, students_on_disk=there)
    for model in _models(avatar):
        for version in dropped:
            path = store.directory(model) / str(version)
            if path.is_dir():
                path.rename(scratch / f"{model}.{version}")
    pin_versions(store, avatar.name, own, students, scratch)
    return dropped


def _models(avatar: InstalledAvatar) -> list[str]:
    """Return the models that have a version for each of the avatar's own generators."""
    return [avatar.name + GENERATOR, *([avatar.name + RAW] if avatar.raw else [])]
