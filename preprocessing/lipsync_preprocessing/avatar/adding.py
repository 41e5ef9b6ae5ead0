"""Adding an avatar to a model repository.

Everything is written into a scratch folder, and what the server sees appears by renaming. The ensemble
is renamed last: whenever this is interrupted, there is either no avatar or a whole one.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import onnx

from lipsync_preprocessing.avatar.materials import (
    Report,
    check_room,
    read_materials,
    write_data,
)
from lipsync_preprocessing.dataset import DatasetOptions
from lipsync_preprocessing.errors import RepositoryError
from lipsync_preprocessing.graphs.networks import audio_window_model, plain_generator
from lipsync_preprocessing.graphs.sources import AudioEncoder, served_audio_encoder
from lipsync_preprocessing.repository import (
    COMPOSITOR,
    CONFIG,
    GENERATOR,
    PACK,
    RAW,
    InstalledAvatar,
    Repository,
    check_name,
    configs,
    write_config,
)
from lipsync_preprocessing.repository.configs import PasteOptions
from lipsync_preprocessing.repository.names import AUDIO_ENCODER, AUDIO_WINDOW


def add_avatar(
    repository: str | Path,
    name: str,
    dataset_dir: str | Path,
    generator_path: str | Path,
    encoder_path: str | Path,
    *,
    raw: bool = False,
    options: DatasetOptions | None = None,
    paste: PasteOptions | None = None,
    report: Report | None = None,
) -> InstalledAvatar:
    """Add the avatar NAME to the repository.

    Args:
        repository: the model repository; one of its avatars is the template (the demo, if it is there).
        name: of the new avatar.
        dataset_dir: the dataset folder.
        generator_path: 99.onnx or 99.pth.
        encoder_path: ONNX file or checkpoint; shared with avatars that have the same.
        raw: serve the plain generator too, as NAME_raw.
        options: how to read the dataset where it leaves a choice.
        paste: options of the compositor.
        report: called with progress.

    Raises:
        AvatarError: an input cannot be used; nothing was changed.
    """
    check_name(name)
    store = Repository(repository)
    _check_free(store, name)
    template = store.template()
    materials = read_materials(dataset_dir, generator_path, encoder_path, options)
    dataset = materials.dataset
    check_room(store.root, materials)
    with store.changing() as scratch:
        _check_free(store, name)  # again, now that no other command can take the name
        encoder = audio_encoder_for(store, materials.encoder, scratch)
        generator, compositor = scratch / (name + GENERATOR), scratch / (name + COMPOSITOR)
        for directory in (generator, compositor):
            (directory / "1").mkdir(parents=True)
        model = generator / "1" / "model.onnx"
        write_data(materials, compositor / "1" / PACK, model, scratch, report)
        configs.write_generator(store, template, name, generator)
        for path in (store.directory(template + COMPOSITOR) / "1").glob("*.py"):
            shutil.copyfile(path, compositor / "1" / path.name)
        size = (dataset.width, dataset.height)
        configs.write_compositor(store, template, name, compositor, size, paste)
        if raw:
            directory = scratch / (name + RAW)
            (directory / "1").mkdir(parents=True)
            onnx.save(plain_generator(materials.generator), str(directory / "1" / "model.onnx"))
            configs.write_raw(store, template, name, directory)
        ensemble = scratch / name
        (ensemble / "1").mkdir(parents=True)
        (ensemble / "1" / ".gitkeep").touch()  # Triton needs the folder, and copies drop empty ones
        configs.write_ensemble(store, template, name, ensemble, encoder, len(dataset), size)
        _ensure_audio_window(store, scratch)
        for part in (encoder, name + GENERATOR, name + COMPOSITOR, name + RAW, name):
            if (scratch / part).is_dir():
                (scratch / part).rename(store.directory(part))
    return store.avatar(name)


def fill_template(
    repository: str | Path,
    name: str,
    dataset_dir: str | Path,
    generator_path: str | Path,
    encoder_path: str | Path,
    *,
    report: Report | None = None,
) -> InstalledAvatar:
    """Write the data of an avatar whose directories and configs exist (the demo, after a clone).

    These are the generator, the frame pack and the two shared ONNX models. The dataset must have the
    configs' frame size and number of frames.
    """
    store = Repository(repository)
    avatar = store.avatar(name)
    materials = read_materials(dataset_dir, generator_path, encoder_path, None)
    dataset = materials.dataset
    came = (len(dataset), dataset.width, dataset.height)
    if came != (avatar.frames, avatar.width, avatar.height):
        raise RepositoryError(
            f"{store.directory(name) / CONFIG}: expected a dataset of {avatar.frames} frames of"
            f" {avatar.width}x{avatar.height}, got {came[0]} of {came[1]}x{came[2]} in"
            f" {dataset.directory}"
        )
    with store.changing() as scratch:
        write_data(materials, scratch / PACK, scratch / "generator.onnx", scratch, report)
        onnx.save(materials.encoder.model, str(scratch / "encoder.onnx"))
        save_audio_window(scratch / "window.onnx")
        targets = {
            "window.onnx": store.model_file(AUDIO_WINDOW),
            "encoder.onnx": store.model_file(avatar.encoder),
            PACK: store.pack(name),
            "generator.onnx": store.model_file(name + GENERATOR),
        }
        for source, target in targets.items():
            target.parent.mkdir(exist_ok=True)
            if target.is_dir() or (scratch / source).is_dir():
                shutil.rmtree(target, ignore_errors=True)
            (scratch / source).replace(target)
    return store.avatar(name)


def _check_free(store: Repository, name: str) -> None:
    if store.directory(name).exists():
        raise RepositoryError(
            f"{store.root}: {name} exists already; remove it, or choose another name"
        )
    parts = [name + suffix for suffix in (GENERATOR, COMPOSITOR, RAW)]
    taken = [part for part in parts if store.directory(part).exists()]
    if taken:
        raise RepositoryError(
            f"{store.root}: {', '.join(taken)}: left by an interrupted import; lipsync-avatar remove {name}"
        )


def audio_encoder_for(store: Repository, encoder: AudioEncoder, scratch: Path) -> str:
    """Return the name of this encoder's model: one of the repository, or else a new one in `scratch`."""
    for directory in sorted(store.root.glob(AUDIO_ENCODER + "*")):
        path = store.model_file(directory.name)
        if path.is_file() and served_audio_encoder(path).same_as(encoder):
            return directory.name
    digest = hashlib.sha256(encoder.model.SerializeToString()).hexdigest()[:8]
    name = f"{AUDIO_ENCODER}_{digest}"
    directory = scratch / name
    (directory / "1").mkdir(parents=True)
    onnx.save(encoder.model, str(directory / "1" / "model.onnx"))
    config = store.config(AUDIO_ENCODER)
    config.name = name
    write_config(directory, config)
    return name


def save_audio_window(path: Path) -> None:
    """Write the ONNX file of the shared model `audio_window`."""
    onnx.save(audio_window_model(), str(path))


def _ensure_audio_window(store: Repository, scratch: Path) -> None:
    target = store.model_file(AUDIO_WINDOW)
    if not target.exists():
        save_audio_window(scratch / "window.onnx")
        target.parent.mkdir(exist_ok=True)
        (scratch / "window.onnx").replace(target)
