"""Removing an avatar from a model repository; the ensemble goes first."""

from __future__ import annotations

from pathlib import Path

from lipsync_preprocessing.errors import RepositoryError
from lipsync_preprocessing.profiles.files import drop_unused
from lipsync_preprocessing.repository import (
    COMPOSITOR,
    CONFIG,
    GENERATOR,
    RAW,
    Repository,
    check_name,
)
from lipsync_preprocessing.repository.names import AUDIO_ENCODER


def remove_avatar(repository: str | Path, name: str) -> list[str]:
    """Remove an avatar, and its audio encoder if no other avatar uses it; return the removed models.

    This also removes what an interrupted import or removal of that name left.
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
    """Return the models that would be removed; raise RepositoryError if the avatar must stay."""
    store = Repository(repository)
    models = models_of(store, name)
    if not models:
        store.avatar(name)  # raises an error that lists the avatars there are
    others = [a for a in store.avatars() if a.name != name]
    if not others and store.directory(name).is_dir():
        raise RepositoryError(
            f"{store.root}: {name} is the last avatar, and the template of the next one; it stays"
        )
    return models


def models_of(store: Repository, name: str) -> list[str]:
    """Return the models that belong to this avatar alone, in the order of removal."""
    check_name(name)
    models = [name, name + COMPOSITOR, name + GENERATOR, name + RAW]
    if (store.directory(name) / CONFIG).is_file():
        encoder = store.avatar(name).encoder
        users = [a.name for a in store.avatars() if a.encoder == encoder]
        if encoder != AUDIO_ENCODER and users == [name]:
            models.append(encoder)
    return [m for m in models if store.directory(m).is_dir()]
