"""The files of an avatar's profiles: `configs/PROFILE.pbtxt` beside the configs of its models."""

from __future__ import annotations

import hashlib
import textwrap
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format

from lipsync_preprocessing.errors import RepositoryError
from lipsync_preprocessing.profiles import overlays
from lipsync_preprocessing.profiles.settings import ProfileSettings
from lipsync_preprocessing.repository import (
    COMPOSITOR,
    CONFIG,
    CONFIGS,
    GENERATOR,
    Repository,
    profiles_of,
)

_MADE_FROM = "Made from a config.pbtxt of sha256 "


@dataclass(frozen=True)
class ProfileFile:
    """One file of a profile: its model, its path and its text."""

    model: str
    path: Path
    text: str


def make_profile(
    store: Repository, name: str, profile: str, settings: ProfileSettings, note: str = ""
) -> list[ProfileFile]:
    """Return the files of a profile, not yet written; models that it does not change have none.

    Args:
        store: the repository.
        name: of the avatar.
        profile: one of PROFILES.
        settings: what the profile leaves open.
        note: lines for the head of the files, such as measurements.
    """
    encoder = store.avatar(name).encoder
    roles = {
        name + GENERATOR: overlays.GENERATOR_ROLE,
        encoder: overlays.ENCODER_ROLE,
        name + COMPOSITOR: overlays.COMPOSITOR_ROLE,
    }
    files = []
    for model, role in roles.items():
        config = store.config(model)
        changes = overlays.changes_of(profile, role, config, settings)
        if changes:
            changed = overlays.changed(config, changes)
            differs = [f"{c.field}: {c.why}" for c in changes]
            head = _head(store, model, name, profile, differs, "" if model == encoder else note)
            path = store.directory(model) / CONFIGS / f"{profile}.pbtxt"
            files.append(ProfileFile(model, path, head + text_format.MessageToString(changed)))
    return files


def write_profile(
    repository: str | Path, name: str, profile: str, settings: ProfileSettings, note: str = ""
) -> list[Path]:
    """Write a profile's files, replacing those it had; return their paths."""
    store = Repository(repository)
    files = make_profile(store, name, profile, settings, note)
    with store.changing() as scratch:
        for file in files:
            partial = scratch / file.model
            partial.write_text(file.text)
            file.path.parent.mkdir(exist_ok=True)
            partial.replace(file.path)
        compositor = store.directory(name + COMPOSITOR) / CONFIGS / f"{profile}.pbtxt"
        if compositor not in [file.path for file in files]:
            _drop(compositor)  # of an earlier tuning
    return [file.path for file in files]


def remove_profile(repository: str | Path, name: str, profile: str) -> list[Path]:
    """Remove a profile; return the removed files.

    The shared audio encoder keeps its file while another avatar has the profile.

    Raises:
        RepositoryError: the avatar has no such profile; the message lists those it has.
    """
    store = Repository(repository)
    avatar = store.avatar(name)
    if profile not in avatar.profiles:
        has = ", ".join(avatar.profiles) or "none"
        raise RepositoryError(f"{name}: no profile {profile!r}; it has: {has}")
    with store.changing():
        removed = [
            path
            for model in (name + GENERATOR, name + COMPOSITOR)
            if _drop(path := store.directory(model) / CONFIGS / f"{profile}.pbtxt")
        ]
        removed += drop_unused(store, avatar.encoder)
    return removed


def drop_unused(store: Repository, encoder: str) -> list[Path]:
    """Remove an audio encoder's profiles that no avatar with this encoder has; return the removed files.

    The caller holds the repository's lock.
    """
    users = [a for a in store.avatars() if a.encoder == encoder]
    used = {profile for avatar in users for profile in avatar.profiles}
    paths = [
        store.directory(encoder) / CONFIGS / f"{profile}.pbtxt"
        for profile in profiles_of(store.directory(encoder))
        if profile not in used
    ]
    return [path for path in paths if _drop(path)]


def stale_profiles(store: Repository, name: str) -> list[str]:
    """Return the profiles that were made from another config.pbtxt than there is now.

    Triton would load the old settings with them.
    """
    avatar = store.avatar(name)
    stale = set()
    for model in (name + GENERATOR, name + COMPOSITOR, avatar.encoder):
        directory = store.directory(model)
        for profile in set(profiles_of(directory)) & set(avatar.profiles):
            text = (directory / CONFIGS / f"{profile}.pbtxt").read_text(errors="replace")
            if _MADE_FROM + _digest(directory / CONFIG) not in text:
                stale.add(profile)
    return sorted(stale)


def _head(
    store: Repository, model: str, name: str, profile: str, differs: list[str], note: str
) -> str:
    lines = [
        f"Profile {profile} of {model}, written by: lipsync-avatar tune {name} --profile {profile}",
        f"Used with: lipsync-server --profile {profile}, tritonserver --model-config-name={profile}",
        _MADE_FROM + _digest(store.directory(model) / CONFIG),
        "(after a change of that: tune again). What differs from it:",
    ]
    for text in differs:
        lines += textwrap.wrap(text, 96, initial_indent="  ", subsequent_indent="    ")
    lines += note.splitlines()
    return "".join(f"# {line}\n" for line in lines)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _drop(path: Path) -> bool:
    """Remove a profile's file, and the folder if it was the last one; return whether it existed."""
    if not path.exists():
        return False
    path.unlink()
    if not any(path.parent.iterdir()):
        path.parent.rmdir()
    return True
