"""The errors of this package: a problem with what an avatar is made of, or with the server.

    AvatarError
    ├── DatasetError         frames, landmarks, rectangles, masks
    ├── RecordingError       a video of a person that no dataset can be made of
    ├── TrainingError        a training that cannot start, or cannot go on
    ├── ModelError           an ONNX file of another shape, or one that cannot be converted
    ├── CheckpointError      a .pth that is no checkpoint, or another network's
    ├── RepositoryError      names, directories and configs of the model repository
    └── ModelControlError    the model control of a running server, or a server that cannot be started

Each message is one line that names the input, what was expected and what came.
"""

from __future__ import annotations

import unicodedata


class AvatarError(Exception):
    """Base of this package's errors; the input is at fault, not the program."""


class DatasetError(AvatarError):
    """The dataset folder cannot be used as it is."""


class RecordingError(AvatarError):
    """A recording cannot be read, shows no usable face, or lacks the face models."""


class TrainingError(AvatarError):
    """A training cannot start with these inputs, or cannot go on from these files."""


class ModelError(AvatarError):
    """An ONNX model is not one of the contract's two, or no server could run it."""


class CheckpointError(AvatarError):
    """A checkpoint is unreadable or holds another network."""


class RepositoryError(AvatarError):
    """The model repository, or a name in it, does not allow the change."""


class ModelControlError(AvatarError):
    """A server cannot be reached or started, or refused to load or unload a model."""


def one_line(error: object, limit: int = 200) -> str:
    """Return an error's text (or any value's) as one line of at most `limit` characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def printable(text: str) -> str:
    r"""Return text that is safe to print on a terminal.

    Control characters, direction marks and lone surrogates, which a file name may contain, become
    escapes such as \x1b; line feeds too.
    """
    return "".join(
        c.encode("unicode_escape").decode()
        if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        else c
        for c in text
    )
