"""The line of a generator's config that names the version to serve.

Triton serves the newest version of a model. Where students lie beside an avatar's own generator that would be
one of them, so every config names its version then: the usual config and the usual profiles the avatar's own
newest one, a student's profile that student.
"""

from __future__ import annotations

import re
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from lipsync_preprocessing.errors import RepositoryError
from lipsync_preprocessing.repository import Student

_OWN, _STUDENT = "the avatar's own generator; students lie beside it", "its student of width"
_LINE = re.compile(rf"^version_policy \{{.*\}}  # (?:{_OWN}|{_STUDENT} (?P<width>\S+))\n", re.M)


def own_line(version: int) -> str:
    """Return the line for a version of the avatar's own generator."""
    return _line(version, _OWN)


def student_line(student: Student) -> str:
    """Return the line for a student."""
    return _line(student.version, f"{_STUDENT} {student.width}")


def width_of_pin(text: str) -> str | None:
    """Return the width of the student that a config names, such as "1/2"; None if it names none."""
    found = _LINE.search(text)
    return None if found is None else found["width"]


def pin_of(text: str) -> str:
    """Return the line of a config, or "" if it has none."""
    found = _LINE.search(text)
    return "" if found is None else found[0]


def without_pin(text: str) -> str:
    """Return a config's text without the line."""
    return _LINE.sub("", text)


def with_pin(text: str, line: str, path: Path) -> str:
    """Return a config's text with this line in the place of the one that it had; "" for none.

    Raises:
        RepositoryError: the config chooses its versions by itself.
    """
    bare = without_pin(text)
    if not line:
        return bare
    if text_format.Parse(bare, ModelConfig()).HasField("version_policy"):
        raise RepositoryError(
            f"{path}: expected a config without a version_policy, for lipsync-avatar to choose between the"
            " avatar's own generator and its students; remove it"
        )
    return f"{bare}\n{line}" if bare and not bare.endswith("\n") else bare + line


def _line(version: int, what: str) -> str:
    return f"version_policy {{ specific {{ versions: [ {version} ] }} }}  # {what}\n"
