"""The files of a model repository: the shared models, and the demo avatar with its compiled generator."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path

import onnx

from lipsync_preprocessing.avatar.adding import audio_encoder_for, save_audio_window
from lipsync_preprocessing.avatar.pack import map_faces, write_faces
from lipsync_preprocessing.avatar.updating import drop_students
from lipsync_preprocessing.bundle.contents import (
    DEMO_ENCODER,
    DEMO_GENERATOR,
    DEMO_PACK,
    MODEL_NAMES,
    MODELS,
    model_files,
)
from lipsync_preprocessing.graphs.compile import write_compiled_generator
from lipsync_preprocessing.graphs.sources import (
    load_audio_encoder,
    load_generator,
    served_audio_encoder,
)
from lipsync_preprocessing.profiles.pin import pin_of, with_pin
from lipsync_preprocessing.repository import (
    CONFIG,
    GENERATOR,
    Repository,
    step_with_input,
    write_config,
)
from lipsync_preprocessing.repository.names import AUDIO_ENCODER, AUDIO_WINDOW, SHARED, TEMPLATE


def fill(root: Path, scratch: Path, *, with_models: bool, with_demo: bool) -> None:
    """Write the files of a repository, each by renaming.

    Args:
        root: the repository.
        scratch: a folder on the same file system.
        with_models: write configs and Python modules too; a checkout has them.
        with_demo: write the demo avatar.
    """
    store = Repository(root)
    save_audio_window(scratch / "window.onnx")
    _place(scratch / "window.onnx", store.model_file(AUDIO_WINDOW))
    encoder = _place_demo_data(store, scratch) if with_demo else AUDIO_ENCODER
    if not with_models:
        return
    for model in MODEL_NAMES if with_demo else SHARED:
        _place_model(store, model, scratch)
    if encoder != AUDIO_ENCODER:
        config = store.config(TEMPLATE)
        step_with_input(config, "mel").model_name = encoder
        write_config(scratch, config)
        _place(scratch / CONFIG, root / TEMPLATE / CONFIG)


def _place_model(store: Repository, model: str, scratch: Path) -> None:
    """Write the config and the Python modules of a model, and delete modules of an earlier version.

    A config goes on naming the version that it named: there are students beside the demo's own generator.
    """
    files = model_files(model)
    (store.root / model / "1").mkdir(parents=True, exist_ok=True)  # the ensemble's stays empty
    for file in files:
        shutil.copyfile(MODELS / file, scratch / file.name)
        present = store.root / file
        if file.name == CONFIG and present.is_file() and (pin := pin_of(present.read_text())):
            path = scratch / file.name
            path.write_text(with_pin(path.read_text(), pin, path))
        _place(scratch / file.name, store.root / file)
    for module in (store.root / model / "1").glob("*.py"):
        if module.relative_to(store.root) not in files:
            module.unlink()


def _place_demo_data(store: Repository, scratch: Path) -> str:
    """Write the demo avatar's pack, generator and audio encoder; return the name of the encoder's model."""
    faces, generator, pack = (
        scratch / name for name in ("faces.raw", "generator.onnx", "pack.npz")
    )
    write_faces(DEMO_PACK, faces)
    write_compiled_generator(load_generator(DEMO_GENERATOR), map_faces(faces), generator)
    served = store.model_file(TEMPLATE + GENERATOR)
    if served.is_file() and not filecmp.cmp(generator, served, shallow=False):
        drop_students(store, TEMPLATE, 1, scratch)  # their teacher goes, and perhaps their faces
    _place(generator, served)
    shutil.copyfile(DEMO_PACK, pack)
    _place(pack, store.pack(TEMPLATE))
    encoder = load_audio_encoder(DEMO_ENCODER)
    present = store.model_file(AUDIO_ENCODER)
    shared = any(a.encoder == AUDIO_ENCODER and a.name != TEMPLATE for a in store.avatars())
    if shared and not served_audio_encoder(present).same_as(encoder):
        # A user's avatar was trained with the encoder of an earlier version: the demo takes another.
        name = audio_encoder_for(store, encoder, scratch)
        if (scratch / name).is_dir():
            (scratch / name).rename(store.directory(name))
        return name
    onnx.save(encoder.model, str(scratch / "encoder.onnx"))
    _place(scratch / "encoder.onnx", present)
    return AUDIO_ENCODER


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
