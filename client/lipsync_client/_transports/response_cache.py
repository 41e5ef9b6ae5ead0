"""Backend kept on disk, so that an interrupted render goes on from what it has."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from .._errors import OutputError
from .replicas import Replicas
from .triton import Request, Tensor


class ResponseCache:
    """A transport that asks each request_for once, whatever happens between: the rest is on disk.

    A request_for is known by all that is in it, sound included, so a changed clip, avatar or option is
    asked anew; an avatar that got new weights under its old name is not noticed.

    Args:
        transport: where new questions go.
        directory: where answers are; it is made.
    """

    def __init__(self, transport: Replicas, directory: Path) -> None:
        self.transports = transport.transports
        self._transport, self._directory = transport, directory
        self.found = 0
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise OutputError(f"{directory} cannot be made: {e.strerror}") from e

    async def infer(self, request_for: Request, timeout_s: float) -> Tensor:
        path = self._directory / f"{_digest(request_for)}.npz"
        if path.exists():
            self.found += 1
            return _read(path)
        answer = await self._transport.infer(request_for, timeout_s)
        _write(path, answer)
        return answer

    def remove(self) -> None:
        """Forget it all: the result is complete."""
        shutil.rmtree(self._directory, ignore_errors=True)


def _digest(request_for: Request) -> str:
    inputs = request_for.inputs
    asked = request_for.model, request_for.output, sorted(request_for.parameters.items())
    digest = hashlib.sha256(repr(asked).encode())
    for name in sorted(inputs):
        digest.update(f"{name} {inputs[name].dtype} {inputs[name].shape}".encode())
        digest.update(inputs[name].tobytes())
    return digest.hexdigest()


def _write(path: Path, answer: Tensor) -> None:
    arrays: dict[str, Any] = {"frames": answer}
    if answer.dtype == object:  # encoded frames, as bytes
        units = [bytes(unit) for unit in answer.ravel()]
        sizes = np.array([len(unit) for unit in units], np.int64).reshape(answer.shape)
        arrays = {"sizes": sizes, "data": np.frombuffer(b"".join(units), np.uint8)}
    aside = path.with_suffix(".part")
    try:
        with aside.open("wb") as file:
            np.savez(file, **arrays)
        aside.replace(path)
    except OSError as e:
        raise OutputError(f"{path} cannot be written: {e.strerror}") from e


def _read(path: Path) -> Tensor:
    with np.load(path) as arrays:
        if "frames" in arrays:
            return np.asarray(arrays["frames"])
        sizes, data = arrays["sizes"], arrays["data"].tobytes()
    answer = np.empty(sizes.shape, object)
    ends = np.cumsum(sizes.ravel())
    answer.ravel()[:] = [data[e - n : e] for e, n in zip(ends, sizes.ravel(), strict=True)]
    return answer
