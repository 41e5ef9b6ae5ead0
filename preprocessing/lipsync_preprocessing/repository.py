"""The model repository on disk: which avatars it holds, and changes to it that appear whole.

An avatar NAME is three Triton models, NAME (the ensemble), NAME_generator and NAME_compositor,
and perhaps NAME_raw. The ensemble's config says which audio encoder it uses.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc.model_config_pb2 import ModelConfig

from lipsync_preprocessing.errors import RepositoryError

TEMPLATE = "demo"
GENERATOR, COMPOSITOR, RAW = "_generator", "_compositor", "_raw"
PART_SUFFIXES = (GENERATOR, COMPOSITOR, RAW)
SHARED = ("mel", "audio_encoder", "audio_window", "stream")
CONFIG = "config.pbtxt"
CONFIGS = "configs"  # Triton's own name: other configs, for --model-config-name
PACK = "frames.npz"
API_PARAMETER = "lipsync_api"
# What Triton's URLs, metrics and version folders take without quoting.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_STAGING = ".lipsync-avatar-"


@dataclass(frozen=True)
class Avatar:
    """What an ensemble's config says, and what lies on disk."""

    name: str
    frames: int
    width: int
    height: int
    encoder: str
    versions: tuple[int, ...]  # of the generator
    raw: bool
    missing: tuple[str, ...]  # parts that are not there
    profiles: tuple[str, ...] = ()  # of execution, of the generator


class Repository:
    """A model repository directory."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).resolve()
        if not self.root.is_dir():
            raise RepositoryError(f"{self.root}: expected a model repository, there is none")

    def directory(self, model: str) -> Path:
        return self.root / model

    def model_file(self, model: str, version: int = 1) -> Path:
        return self.root / model / str(version) / "model.onnx"

    def config(self, model: str) -> Any:
        """The model's config as protobuf."""
        path = self.root / model / CONFIG
        try:
            return text_format.Parse(path.read_text(), ModelConfig())
        except OSError as error:
            raise RepositoryError(f"{path}: cannot be read: {error.strerror}") from error
        except text_format.ParseError as error:
            raise RepositoryError(f"{path}: expected a Triton model config: {error}") from error

    def avatars(self) -> list[Avatar]:
        """Every avatar, by name."""
        found = []
        for path in sorted(self.root.iterdir()):
            if (path / CONFIG).is_file():
                config = self.config(path.name)
                if config.platform == "ensemble" and API_PARAMETER in config.parameters:
                    found.append(self._describe(config))
        return found

    def avatar(self, name: str) -> Avatar:
        """The avatar of this name; RepositoryError that lists what there is instead."""
        known = self.avatars()
        for avatar in known:
            if avatar.name == name:
                return avatar
        names = ", ".join(a.name for a in known) or "none"
        raise RepositoryError(f"{self.root}: no avatar {name!r}; it has: {names}")

    def leftovers(self) -> list[str]:
        """Parts whose ensemble is not there: of an import or a removal that was cut off."""
        return [
            path.name
            for path in sorted(self.root.iterdir())
            for suffix in PART_SUFFIXES
            if path.is_dir() and path.name.endswith(suffix)
            if not (self.root / path.name.removesuffix(suffix) / CONFIG).exists()
        ]

    def versions(self, model: str) -> tuple[int, ...]:
        """Numbers of the model's version folders that hold something."""
        directory = self.root / model
        if not directory.is_dir():
            return ()
        numbered = [p for p in directory.iterdir() if p.is_dir() and p.name.isdecimal()]
        return tuple(sorted(int(p.name) for p in numbered if any(_visible(p))))

    def template(self) -> str:
        """The avatar whose directories are copied: the demo, else any other."""
        names = [a.name for a in self.avatars()]
        if not names:
            raise RepositoryError(
                f"{self.root}: expected an avatar to copy the configs of ({TEMPLATE}), found none"
            )
        return TEMPLATE if TEMPLATE in names else names[0]

    @contextlib.contextmanager
    def changing(self) -> Iterator[Path]:
        """The one change at a time: yields a scratch folder on the repository's file system.

        It is gone afterwards, as are those of changes that were killed. A full disk becomes a
        RepositoryError.
        """
        handle = os.open(self.root, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RepositoryError(
                    f"{self.root}: another lipsync-avatar is changing it; try again when it is done"
                ) from error
            prefix = f"{_STAGING}{self.root.name}-"
            for place in (self.root.parent, self.root):
                for stale in place.glob(prefix + "*"):
                    shutil.rmtree(stale, ignore_errors=True)
            try:
                scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=self._scratch_place()))
                try:
                    yield scratch
                finally:
                    shutil.rmtree(scratch, ignore_errors=True)
            except OSError as error:
                raise _told(error, self.root) from error
        finally:
            os.close(handle)

    def _scratch_place(self) -> Path:
        # Beside the repository, where a polling server doesn't take it for a model, if a rename
        # from there is possible.
        parent = self.root.parent
        same = parent.stat().st_dev == self.root.stat().st_dev
        return parent if same and os.access(parent, os.W_OK) else self.root

    def _describe(self, config: Any) -> Avatar:
        name = config.name
        parameters = {k: v.string_value for k, v in config.parameters.items()}
        encoder = step_with_input(config, "mel").model_name
        missing = [p for p in (name + GENERATOR, encoder) if not self.versions(p)]
        if not (self.root / (name + COMPOSITOR) / "1" / PACK).is_file():
            missing.append(name + COMPOSITOR)
        return Avatar(
            name=name,
            frames=int(parameters.get("avatar_frames", 0)),
            width=int(parameters.get("width", 0)),
            height=int(parameters.get("height", 0)),
            encoder=encoder,
            versions=self.versions(name + GENERATOR),
            raw=(self.root / (name + RAW) / CONFIG).exists(),
            missing=tuple(missing),
            profiles=profiles_of(self.root / (name + GENERATOR)),
        )


def profiles_of(directory: Path) -> tuple[str, ...]:
    """Names of a model's execution profiles."""
    return tuple(sorted(path.stem for path in (directory / CONFIGS).glob("*.pbtxt")))


def check_name(name: str) -> None:
    """RepositoryError if the name cannot be an avatar's."""
    if not _NAME.fullmatch(name):
        raise RepositoryError(
            f"avatar name {name!r}: expected a letter, then up to 63 letters, digits, '_' or '-'"
        )
    if name in SHARED or name.startswith("audio_encoder"):
        raise RepositoryError(f"avatar name {name!r}: expected another, this is a shared model's")
    for suffix in PART_SUFFIXES:
        if name.endswith(suffix):
            raise RepositoryError(
                f"avatar name {name!r}: expected one without {suffix!r} at its end, which marks"
                " the parts of an avatar"
            )


def write_config(directory: Path, config: Any) -> None:
    """Write a config as text."""
    text = f"# Written by lipsync-avatar.\n{text_format.MessageToString(config)}"
    (directory / CONFIG).write_text(text)


def step_with_input(config: Any, tensor: str) -> Any:
    """The ensemble's step that takes an input of this name."""
    for step in config.ensemble_scheduling.step:
        if tensor in step.input_map:
            return step
    raise RepositoryError(f"{config.name}: expected an ensemble with a step that takes {tensor!r}")


def set_parameter(config: Any, name: str, value: object) -> None:
    config.parameters[name].string_value = str(value)


def _visible(path: Path) -> Iterator[Path]:
    return (p for p in path.iterdir() if not p.name.startswith("."))


def _told(error: OSError, root: Path) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(root).free >> 20
        return RepositoryError(
            f"{root}: the disk is full ({free} MiB free); nothing was changed, make room and try again"
        )
    where = error.filename or root
    return RepositoryError(f"{where}: {error.strerror or error}")
