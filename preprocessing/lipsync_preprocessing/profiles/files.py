"""The files of an avatar's profiles: `configs/PROFILE.pbtxt` beside the configs of its models."""

from __future__ import annotations

import hashlib
import textwrap
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from google.protobuf import text_format

from lipsync_preprocessing.errors import RepositoryError
from lipsync_preprocessing.profiles import overlays
from lipsync_preprocessing.profiles.pin import (
    own_line,
    student_line,
    width_of_pin,
    with_pin,
    without_pin,
)
from lipsync_preprocessing.profiles.settings import ProfileSettings
from lipsync_preprocessing.repository import (
    COMPOSITOR,
    CONFIG,
    CONFIGS,
    GENERATOR,
    Repository,
    Student,
    profiles_of,
    width_name,
)
from lipsync_preprocessing.repository.students import newest_of_width

_MADE_FROM = "Made from a config.pbtxt of sha256 "


@dataclass(frozen=True)
class ProfileFile:
    """One file of a profile: its model, its path and its text."""

    model: str
    path: Path
    text: str


def profile_name(profile: str, student: Student | None) -> str:
    """Return the name of a profile's files: a student's end in its width, such as "openvino-f32-half"."""
    return profile if student is None else f"{profile}-{student.name}"


def make_profile(
    store: Repository,
    name: str,
    profile: str,
    settings: ProfileSettings,
    note: str = "",
    student: Student | None = None,
) -> list[ProfileFile]:
    """Return the files of a profile, not yet written; models that it does not change have none.

    Args:
        store: the repository.
        name: of the avatar.
        profile: one of PROFILES.
        settings: what the profile leaves open.
        note: lines for the head of the files, such as measurements.
        student: the one that is served, in the place of the avatar's own generator.
    """
    avatar = store.avatar(name)
    encoder, chosen = avatar.encoder, profile_name(profile, student)
    roles = {
        name + GENERATOR: overlays.GENERATOR_ROLE,
        encoder: overlays.ENCODER_ROLE,
        name + COMPOSITOR: overlays.COMPOSITOR_ROLE,
        name: overlays.ENSEMBLE_ROLE,
    }
    files = []
    for model, role in roles.items():
        config = store.config(model)
        changes = overlays.changes_of(profile, role, config, settings)
        if changes:
            changed = overlays.changed(config, changes)
            differs = [f"{c.field}: {c.why}" for c in changes]
            line = ""
            if model == name + GENERATOR and avatar.students:
                changed.ClearField("version_policy")
                line = own_line(avatar.versions[-1]) if student is None else student_line(student)
            if line and student is not None:
                differs.append(f"version_policy: the student of width {student.width}")
            command = f"lipsync-avatar tune {name} --profile {profile}"
            command += f" --width {student.width}" if student is not None else ""
            lines = "" if model == encoder else note
            head = _head(store, model, chosen, command, differs, lines)
            path = store.directory(model) / CONFIGS / f"{chosen}.pbtxt"
            text = head + text_format.MessageToString(changed) + line
            files.append(ProfileFile(model, path, text))
    return files


def write_profile(
    repository: str | Path,
    name: str,
    profile: str,
    settings: ProfileSettings,
    note: str = "",
    student: Student | None = None,
) -> list[Path]:
    """Write a profile's files, replacing those it had; return their paths. See `make_profile`."""
    store = Repository(repository)
    files = make_profile(store, name, profile, settings, note, student)
    with store.changing() as scratch:
        for file in files:
            partial = scratch / file.model
            partial.write_text(file.text)
            file.path.parent.mkdir(exist_ok=True)
            partial.replace(file.path)
        file_name = f"{profile_name(profile, student)}.pbtxt"
        for model in (name + COMPOSITOR, name):
            path = store.directory(model) / CONFIGS / file_name
            if path not in [file.path for file in files]:
                _drop(path)  # of an earlier tuning
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
        return _remove(store, name, avatar.encoder, [profile])


def pin_versions(
    store: Repository,
    name: str,
    own: tuple[int, ...],
    students: tuple[Student, ...],
    scratch: Path,
    *,
    students_on_disk: bool | None = None,
) -> list[str]:
    """Have an avatar's configs serve these versions and no others; return the profiles that were removed.

    The usual config and the usual profiles serve the newest of the avatar's own, a student's profile the
    newest student of its width; without one, the profile is removed. The caller holds the repository's lock.

    Args:
        store: the repository.
        name: of the avatar.
        own, students: the versions to choose from.
        scratch: a folder on the repository's file system.
        students_on_disk: whether there are students that the usual config must not serve, if they are others
            than those to choose from: those that are about to come or to go.

    Raises:
        RepositoryError: a config chooses its versions by itself; nothing was changed.
    """
    directory = store.directory(name + GENERATOR)
    changed, gone = {}, []
    pinned_to_own = bool(students) if students_on_disk is None else students_on_disk
    for path in (directory / CONFIG, *sorted((directory / CONFIGS).glob("*.pbtxt"))):
        text = path.read_text()
        width = width_of_pin(text)
        line = own_line(own[-1]) if pinned_to_own else ""
        if width is not None:
            newest = newest_of_width(students, width_name(Fraction(width)))
            if newest is None:
                gone.append(path.stem)
                continue
            line = student_line(newest)
        pinned = with_pin(text, line, path)
        if pinned != text:
            changed[path] = pinned
    for path, text in changed.items():
        (scratch / path.name).write_text(text)
        (scratch / path.name).replace(path)
    if gone:
        _remove(store, name, store.avatar(name).encoder, gone)
    return gone


def _remove(store: Repository, name: str, encoder: str, profiles: list[str]) -> list[Path]:
    removed = [
        path
        for profile in profiles
        for model in (name + GENERATOR, name + COMPOSITOR, name)
        if _drop(path := store.directory(model) / CONFIGS / f"{profile}.pbtxt")
    ]
    return removed + drop_unused(store, encoder)


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
    for model in (name + GENERATOR, name + COMPOSITOR, name, avatar.encoder):
        directory = store.directory(model)
        for profile in set(profiles_of(directory)) & set(avatar.profiles):
            text = (directory / CONFIGS / f"{profile}.pbtxt").read_text(errors="replace")
            if _MADE_FROM + _digest(directory / CONFIG) not in text:
                stale.add(profile)
    return sorted(stale)


def _head(
    store: Repository, model: str, profile: str, command: str, differs: list[str], note: str
) -> str:
    lines = [
        f"Profile {profile} of {model}, written by: {command}",
        f"Used with: lipsync-server --profile {profile}, tritonserver --model-config-name={profile}",
        _MADE_FROM + _digest(store.directory(model) / CONFIG),
        "(after a change of that: tune again). What differs from it:",
    ]
    for text in differs:
        lines += textwrap.wrap(text, 96, initial_indent="  ", subsequent_indent="    ")
    lines += note.splitlines()
    return "".join(f"# {line}\n" for line in lines)


def _digest(path: Path) -> str:
    """Return a digest of a config; the version that is served may change without a new measurement."""
    return hashlib.sha256(without_pin(path.read_text()).encode()).hexdigest()[:16]


def _drop(path: Path) -> bool:
    """Remove a profile's file, and the folder if it was the last one; return whether it existed."""
    if not path.exists():
        return False
    path.unlink()
    if not any(path.parent.iterdir()):
        path.parent.rmdir()
    return True
