"""Bringing an avatar into a model repository, and taking it out.

Everything is checked before anything is written; everything is written aside; what the server
sees appears by renaming. The ensemble comes last and goes first: whenever this is cut off, there
is either no avatar or a whole one.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from lipsync_preprocessing import configs
from lipsync_preprocessing.compile import (
    audio_window_model,
    raw_generator,
    write_compiled_generator,
)
from lipsync_preprocessing.configs import PasteOptions
from lipsync_preprocessing.dataset import Dataset, read_dataset
from lipsync_preprocessing.errors import RepositoryError
from lipsync_preprocessing.pack import map_faces, write_pack
from lipsync_preprocessing.profiles import drop_unused
from lipsync_preprocessing.repository import (
    COMPOSITOR,
    CONFIG,
    GENERATOR,
    PACK,
    RAW,
    Avatar,
    Repository,
    check_name,
    write_config,
)
from lipsync_preprocessing.sources import load_audio_encoder, load_generator, same_audio_encoder

Report = Callable[[str, int, int], None]  # what is being done, done, of how many
AUDIO_ENCODER, AUDIO_WINDOW = "audio_encoder", "audio_window"


@dataclass(frozen=True)
class _Materials:
    """All inputs of an import, checked."""

    dataset: Dataset
    generator: Any
    encoder: Any


def add_avatar(
    repository: str | Path,
    name: str,
    dataset_dir: str | Path,
    generator_path: str | Path,
    encoder_path: str | Path,
    *,
    raw: bool = False,
    parsing: bool = True,
    paste: PasteOptions | None = None,
    report: Report | None = None,
) -> Avatar:
    """Make the avatar NAME in the repository.

    Args:
        repository: the model repository; one of its avatars is the template (the demo, if there).
        dataset_dir: raw or packaged dataset folder.
        generator_path: 99.onnx or 99.pth.
        encoder_path: ONNX file or checkpoint; shared with avatars that have the same.
        raw: serve the plain generator too, as NAME_raw.
        parsing: use the dataset's parsing masks, if it has some.
        paste: options of the compositor.
        report: called with progress.

    Raises:
        AvatarError: one of its kinds; nothing was changed.
    """
    check_name(name)
    store = Repository(repository)
    _check_free(store, name)
    template = store.template()
    materials = _check(dataset_dir, generator_path, encoder_path, parsing, report)
    dataset = materials.dataset
    _check_room(store, materials)
    with store.changing() as scratch:
        _check_free(store, name)  # now that nobody else can take it
        encoder = _encoder_for(store, materials.encoder, scratch)
        generator, compositor = scratch / (name + GENERATOR), scratch / (name + COMPOSITOR)
        (generator / "1").mkdir(parents=True)
        _write_data(materials, compositor / "1", generator / "1" / "model.onnx", scratch, report)
        configs.write_generator(store, template, name, generator)
        _copy_code(store.directory(template + COMPOSITOR), compositor)
        size = (dataset.width, dataset.height)
        configs.write_compositor(store, template, name, compositor, size, paste)
        if raw:
            directory = scratch / (name + RAW)
            (directory / "1").mkdir(parents=True)
            onnx.save(raw_generator(materials.generator), str(directory / "1" / "model.onnx"))
            configs.write_raw(store, template, name, directory)
        ensemble = scratch / name
        (ensemble / "1").mkdir(parents=True)
        (ensemble / "1" / ".gitkeep").touch()  # Triton wants the folder, and copies drop empty ones
        configs.write_ensemble(store, template, name, ensemble, encoder, len(dataset), size)
        _ensure_audio_window(store, scratch)
        models = [encoder, name + GENERATOR, name + COMPOSITOR, name + RAW, name]
        for model in models:
            if (scratch / model).is_dir():
                (scratch / model).rename(store.directory(model))
    return store.avatar(name)


def fill_template(
    repository: str | Path,
    name: str,
    dataset_dir: str | Path,
    generator_path: str | Path,
    encoder_path: str | Path,
    *,
    parsing: bool = True,
    report: Report | None = None,
) -> Avatar:
    """Put data into an avatar whose directories and configs are there (the demo, after a clone).

    Writes the generator, the frame pack and the two shared ONNX models. The dataset must be of
    the configs' frame size and count.
    """
    store = Repository(repository)
    avatar = store.avatar(name)
    materials = _check(dataset_dir, generator_path, encoder_path, parsing, report)
    dataset = materials.dataset
    came = (len(dataset), dataset.width, dataset.height)
    if came != (avatar.frames, avatar.width, avatar.height):
        raise RepositoryError(
            f"{store.directory(name) / CONFIG}: says {avatar.frames} frames of {avatar.width}x"
            f"{avatar.height}, the dataset {dataset.directory} has {came[0]} of {came[1]}x{came[2]}"
        )
    with store.changing() as scratch:
        _write_data(materials, scratch / "pack", scratch / "generator.onnx", scratch, report)
        onnx.save(materials.encoder, str(scratch / "encoder.onnx"))
        onnx.save(audio_window_model(), str(scratch / "window.onnx"))
        targets = {
            scratch / "window.onnx": store.model_file(AUDIO_WINDOW),
            scratch / "encoder.onnx": store.model_file(avatar.encoder),
            scratch / "pack" / PACK: store.directory(name + COMPOSITOR) / "1" / PACK,
            scratch / "generator.onnx": store.model_file(name + GENERATOR),
        }
        for source, target in targets.items():
            target.parent.mkdir(exist_ok=True)
            if target.is_dir() or source.is_dir():
                shutil.rmtree(target, ignore_errors=True)
            source.replace(target)
    return store.avatar(name)


def remove_avatar(repository: str | Path, name: str) -> list[str]:
    """Take an avatar out, with its audio encoder if no other avatar uses it.

    Also clears what an interrupted import or removal of that name left. Returns the models removed.
    """
    store = Repository(repository)
    models = check_removable(store.root, name)
    encoders = {a.encoder for a in store.avatars() if a.name == name}
    with store.changing() as scratch:
        for model in models:
            store.directory(model).rename(scratch / model)
        for encoder in encoders:
            drop_unused(store, encoder)
    return models


def check_removable(repository: str | Path, name: str) -> list[str]:
    """The models that would go with the avatar; RepositoryError if it may not go."""
    store = Repository(repository)
    models = models_of(store, name)
    if not models:
        store.avatar(name)  # raises, with the names there are
    others = [a for a in store.avatars() if a.name != name]
    if not others and store.directory(name).is_dir():
        raise RepositoryError(
            f"{store.root}: {name} is the last avatar, the template of the next; it stays"
        )
    return models


def models_of(store: Repository, name: str) -> list[str]:
    """The models that are this avatar's alone, in the order they may go: the ensemble first."""
    check_name(name)
    models = [name, name + COMPOSITOR, name + GENERATOR, name + RAW]
    if (store.directory(name) / CONFIG).is_file():
        encoder = store.avatar(name).encoder
        users = [a.name for a in store.avatars() if a.encoder == encoder]
        if encoder != AUDIO_ENCODER and users == [name]:
            models.append(encoder)
    return [m for m in models if store.directory(m).is_dir()]


def _check(
    dataset_dir: str | Path,
    generator_path: str | Path,
    encoder_path: str | Path,
    parsing: bool,
    report: Report | None,
) -> _Materials:
    """Read and try everything; the quick checks first."""
    dataset = read_dataset(dataset_dir, parsing=parsing)
    encoder = load_audio_encoder(encoder_path)
    generator = load_generator(generator_path)
    dataset.check(_about(report, "checking frames"))
    return _Materials(dataset, generator, encoder)


def _check_free(store: Repository, name: str) -> None:
    if store.directory(name).exists():
        raise RepositoryError(
            f"{store.root}: {name} is there already; remove it, or choose another"
        )
    taken = [
        m for m in (name + s for s in (GENERATOR, COMPOSITOR, RAW)) if (store.root / m).exists()
    ]
    if taken:
        raise RepositoryError(
            f"{store.root}: {', '.join(taken)} of an interrupted import: lipsync-avatar remove {name}"
        )


def _check_room(store: Repository, materials: _Materials) -> None:
    """At the peak faces and frames lie there twice, once aside; videos' frames can't be foreseen."""
    faces = len(materials.dataset) * 320 * 320 * 3
    files = materials.dataset.directory.rglob("*.jpg")
    frames = sum(f.stat().st_size for f in files if f.parent.name in ("full_body_img", "full_body"))
    needed = 2 * faces + 2 * frames + 2 * int(materials.generator.ByteSize())
    free = shutil.disk_usage(store.root).free
    if needed > free:
        raise RepositoryError(
            f"{store.root}: expected {needed >> 20} MiB of free disk for the import, got {free >> 20}"
        )


def _write_data(
    materials: _Materials, pack_dir: Path, model: Path, scratch: Path, report: Report | None
) -> None:
    """The frame pack in `pack_dir`, and the compiled generator."""
    pack_dir.mkdir(parents=True)
    faces = scratch / "faces.raw"
    write_pack(materials.dataset, pack_dir / PACK, faces, _about(report, "packing frames"))
    if report is not None:
        report("compiling", 0, 1)
    write_compiled_generator(materials.generator, map_faces(faces), model)
    faces.unlink()
    if report is not None:
        report("compiling", 1, 1)


def _encoder_for(store: Repository, encoder: Any, scratch: Path) -> str:
    """Name of the model that is this encoder: one that is there, else a new one, made aside."""
    for directory in sorted(store.root.glob(AUDIO_ENCODER + "*")):
        path = store.model_file(directory.name)
        if path.is_file() and same_audio_encoder(onnx.load(str(path)), encoder):
            return directory.name
    name = f"{AUDIO_ENCODER}_{hashlib.sha256(encoder.SerializeToString()).hexdigest()[:8]}"
    directory = scratch / name
    (directory / "1").mkdir(parents=True)
    onnx.save(encoder, str(directory / "1" / "model.onnx"))
    config = store.config(AUDIO_ENCODER)
    config.name = name
    write_config(directory, config)
    return name


def _ensure_audio_window(store: Repository, scratch: Path) -> None:
    target = store.model_file(AUDIO_WINDOW)
    if not target.exists():
        onnx.save(audio_window_model(), str(scratch / "window.onnx"))
        target.parent.mkdir(exist_ok=True)
        (scratch / "window.onnx").replace(target)


def _copy_code(template: Path, target: Path) -> None:
    """The compositor's Python files."""
    for path in sorted((template / "1").glob("*.py")):
        shutil.copyfile(path, target / "1" / path.name)


def _about(report: Report | None, what: str) -> Callable[[int, int], None] | None:
    if report is None:
        return None
    return lambda done, total: report(what, done, total)
