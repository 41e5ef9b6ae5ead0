"""What can be wrong with what an avatar is made of.

    AvatarError
    ├── DatasetError       frames, landmarks, rectangles, masks
    ├── ModelError         an ONNX file of another shape, or one that cannot be rewritten
    ├── CheckpointError    a .pth that is not one, or is another network's
    ├── RepositoryError    names, directories and configs of the model repository
    └── ServerError        the model-control API of a running server

Each message is one line: which file, what was expected, what came.
"""

from __future__ import annotations


class AvatarError(Exception):
    """Base of all errors of this package that are the input's fault, not the program's."""


class DatasetError(AvatarError):
    """The dataset folder cannot be used as it is."""


class ModelError(AvatarError):
    """An ONNX model is not one of the two of the contract."""


class CheckpointError(AvatarError):
    """A checkpoint is unreadable or holds another network."""


class RepositoryError(AvatarError):
    """The model repository, or a name in it, does not allow what was asked."""


class ServerError(AvatarError):
    """A running server refused to load or unload."""
