"""Reading a model repository: the avatars that it holds."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from lipsync_preprocessing.errors import RepositoryError
from lipsync_preprocessing.repository.changes import changing
from lipsync_preprocessing.repository.config_files import read_config, step_with_input
from lipsync_preprocessing.repository.names import (
    COMPOSITOR,
    CONFIG,
    CONFIGS,
    GENERATOR,
    PACK,
    PART_SUFFIXES,
    RAW,
    TEMPLATE,
)
from lipsync_preprocessing.repository.students import Student, read_student

API_PARAMETER = "lipsync_api"  # marks an ensemble that is an avatar


@dataclass(frozen=True)
class InstalledAvatar:
    """An avatar of a repository, from its ensemble's config and its files.

    Attributes:
        frames: frames of its loop.
        width, height: of a frame, pixels.
        encoder: name of its audio encoder's model.
        versions: of its own generator, without its students; the newest one is served.
        raw: it has the plain network too.
        missing: models without data.
        profiles: names of its generator's profiles.
        students: smaller generators beside its own.
    """

    name: str
    frames: int
    width: int
    height: int
    encoder: str
    versions: tuple[int, ...]
    raw: bool
    missing: tuple[str, ...]
    profiles: tuple[str, ...] = ()
    students: tuple[Student, ...] = ()


class Repository:
    """A model repository directory.

    Raises:
        RepositoryError: there is no such directory.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).resolve()
        if not self.root.is_dir():
            raise RepositoryError(f"{self.root}: expected a model repository, there is none")

    def directory(self, model: str) -> Path:
        """Return the directory of a model."""
        return self.root / model

    def model_file(self, model: str, version: int = 1) -> Path:
        """Return the path of a model's ONNX file, or folder."""
        return self.root / model / str(version) / "model.onnx"

    def pack(self, avatar: str) -> Path:
        """Return the path of an avatar's frame pack."""
        return self.root / (avatar + COMPOSITOR) / "1" / PACK

    def config(self, model: str) -> ModelConfig:
        """Return a model's config; raise RepositoryError if it cannot be read."""
        return read_config(self.root / model / CONFIG)

    def avatars(self) -> list[InstalledAvatar]:
        """Return every avatar, ordered by name."""
        found = []
        for path in sorted(self.root.iterdir()):
            if (path / CONFIG).is_file():
                config = self.config(path.name)
                if config.platform == "ensemble" and API_PARAMETER in config.parameters:
                    found.append(self._describe(config))
        return found

    def avatar(self, name: str) -> InstalledAvatar:
        """Return an avatar; raise RepositoryError that lists the avatars there are."""
        known = self.avatars()
        for avatar in known:
            if avatar.name == name:
                return avatar
        names = ", ".join(a.name for a in known) or "none"
        raise RepositoryError(f"{self.root}: no avatar {name!r}; it has: {names}")

    def leftovers(self) -> list[str]:
        """Return the models of avatars without an ensemble, left by an interrupted change."""
        return [
            path.name
            for path in sorted(self.root.iterdir())
            for suffix in PART_SUFFIXES
            if path.is_dir() and path.name.endswith(suffix)
            if not (self.root / path.name.removesuffix(suffix) / CONFIG).exists()
        ]

    def versions(self, model: str) -> tuple[int, ...]:
        """Return the numbers of a model's version folders that are not empty."""
        directory = self.root / model
        if not directory.is_dir():
            return ()
        numbered = [p for p in directory.iterdir() if p.is_dir() and p.name.isdecimal()]
        return tuple(sorted(int(p.name) for p in numbered if _has_data(p)))

    def students(self, model: str) -> tuple[Student, ...]:
        """Return the students among a generator's versions, by their numbers."""
        versions = self.versions(model)
        found = (read_student(self.root / model / str(version), version) for version in versions)
        return tuple(student for student in found if student is not None)

    def template(self) -> str:
        """Return the avatar whose directories are copied: the demo, else the first."""
        names = [a.name for a in self.avatars()]
        if not names:
            raise RepositoryError(
                f"{self.root}: expected an avatar to copy the configs of ({TEMPLATE}), found none"
            )
        return TEMPLATE if TEMPLATE in names else names[0]

    def changing(self) -> AbstractContextManager[Path]:
        """Return a context that locks the repository and yields a scratch folder; see `changing`."""
        return changing(self.root)

    def _describe(self, config: ModelConfig) -> InstalledAvatar:
        name = config.name
        parameters = {k: v.string_value for k, v in config.parameters.items()}
        encoder = step_with_input(config, "mel").model_name
        students = self.students(name + GENERATOR)
        taught = {student.version for student in students}
        own = tuple(v for v in self.versions(name + GENERATOR) if v not in taught)
        missing = [] if own else [name + GENERATOR]
        missing += [] if self.versions(encoder) else [encoder]
        if not self.pack(name).is_file():
            missing.append(name + COMPOSITOR)
        return InstalledAvatar(
            name=name,
            frames=int(parameters.get("avatar_frames", 0)),
            width=int(parameters.get("width", 0)),
            height=int(parameters.get("height", 0)),
            encoder=encoder,
            versions=own,
            raw=(self.root / (name + RAW) / CONFIG).exists(),
            missing=tuple(missing),
            profiles=profiles_of(self.root / (name + GENERATOR)),
            students=students,
        )


def profiles_of(directory: Path) -> tuple[str, ...]:
    """Return the names of a model's execution profiles."""
    return tuple(sorted(path.stem for path in (directory / CONFIGS).glob("*.pbtxt")))


def _has_data(version: Path) -> bool:
    return any(not path.name.startswith(".") for path in version.iterdir())
