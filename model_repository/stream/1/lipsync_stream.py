"""Slices of a whole clip, one for each request to an avatar, without Triton."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

RAW_OUTPUTS = ("FRAMES", "I420")
OUTPUTS = (*RAW_OUTPUTS, "JPEG", "H264")

_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
_HOP, _COLUMNS, _COLUMNS_A_SECOND, _FPS = 200, 16, 80, 25  # of the mel model: tests hold them to it
_SAMPLES_A_FRAME = 640
# A frame depends on the audio from 0.39 s before it to 0.46 s after it; a slice may hold more.
_BEFORE, _AFTER = 7_000, 8_000  # samples


REASONS = ("empty", "not_finite", "name", "full", "avatar", "option")


class StreamError(ValueError):
    """A mistake of the caller; the response is INVALID_ARG.

    Attributes:
        reason: one of REASONS, for the metrics.
    """

    def __init__(self, message: str, reason: str = "name") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Slice:
    """Frames start … start + count - 1, and the samples [begin, end) that hold their context."""

    start: int
    count: int
    begin: int
    end: int


def slices(samples: int, first: int, chunk: int) -> Iterator[Slice]:
    """Yield the slices of a clip in order: `first` frames, then `chunk` frames each."""
    columns = 1 + max(samples, (_COLUMNS - 1) * _HOP) // _HOP
    frames = int((columns - _COLUMNS) / _COLUMNS_A_SECOND * _FPS) + 4
    start, count = 0, first
    while start < frames:
        count = min(count, frames - start)
        begin = max(0, start * _SAMPLES_A_FRAME - _BEFORE)
        end = min(samples, (start + count) * _SAMPLES_A_FRAME + _AFTER)
        yield Slice(start, count, begin, end)
        start, count = start + count, chunk


def check_avatar(name: str) -> str:
    """Return the name if a Triton model can have it.

    Raises:
        StreamError: no model can, or it is this model's own name.
    """
    if not _NAME.fullmatch(name) or name == "stream":
        raise StreamError(
            f"AVATAR must be the name of an avatar: letters, digits, - and _; got {name[:60]!r}"
        )
    return name


def check_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return a request's parameters if a request to an avatar can carry them.

    Raises:
        StreamError: a number with a fraction, which Triton's Python models cannot pass on.
    """
    for name, value in parameters.items():
        if not isinstance(value, bool | int | str):
            raise StreamError(
                f"parameter {name[:60]} must be an integer, a string or a boolean, got {value!r}",
                "option",
            )
    return parameters


def check_output(name: str) -> str:
    """Return the name if it is an output of an avatar.

    Raises:
        StreamError: no avatar has such an output.
    """
    if name not in OUTPUTS:
        raise StreamError(f"OUTPUT must be one of {', '.join(OUTPUTS)}; got {name[:60]!r}")
    return name
