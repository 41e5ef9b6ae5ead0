"""Responses kept on disk, so that an interrupted render continues with those it has."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import numpy as np

from .._errors import InputError, OutputError
from .replicas import Replicas
from .request import Request, Tensor

_LOCK = "lock"
_SUFFIX = ".response"
_DIGEST_BYTES = 32


class ResponseCache:
    """A backend that sends each request once: its response is on disk afterwards.

    A request is recognised by all that is in it, audio included, so a changed clip, avatar or option is a new
    request. An avatar that got new weights under its old name is not noticed.

    Args:
        backend: receives the new requests.
        directory: of the responses; it is created.

    Attributes:
        transports: those of the backend.
        found: number of responses that were on disk.

    Raises:
        InputError: another process uses the directory.
        OutputError: the directory cannot be written.
    """

    def __init__(self, backend: Replicas, directory: Path) -> None:
        self.transports = backend.transports
        self.found = 0
        self._backend, self._directory = backend, directory
        self._lock = _lock(directory)
        for part in directory.glob("*.part"):  # of a process that was killed
            part.unlink(missing_ok=True)

    async def infer(self, request: Request, timeout_s: float) -> Tensor:
        """Return the response on disk, else the backend's; a damaged file counts as none.

        Raises:
            ServerError: of the backend.
            OutputError: the response cannot be written.
        """
        path = self._directory / f"{_digest(request)}{_SUFFIX}"
        response = _read(path)
        if response is not None:
            self.found += 1
            return response
        response = await self._backend.infer(request, timeout_s)
        _write(path, response)
        return response

    def __enter__(self) -> ResponseCache:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let another process use the directory; what is in it stays."""
        os.close(self._lock)

    def remove(self) -> None:
        """Delete the responses, and the directory if it holds nothing else: the result is complete."""
        for pattern in (f"*{_SUFFIX}", "*.part", _LOCK):
            for path in self._directory.glob(pattern):
                path.unlink(missing_ok=True)
        with suppress(OSError):
            self._directory.rmdir()


def _lock(directory: Path) -> int:
    """Create a directory and return a file descriptor that holds its lock."""
    while True:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock = os.open(directory / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as e:
            raise OutputError(f"{directory} cannot be created: {e.strerror}") from e
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            os.close(lock)
            raise InputError(
                f"another process resumes the render that is kept in {directory}: wait until it has ended"
            ) from e
        except OSError:  # some network file systems have no locks
            return lock
        if os.fstat(lock).st_nlink:
            return lock
        os.close(lock)  # another process removed the directory before it was locked


def _digest(request: Request) -> str:
    asked = request.model, request.output, sorted(request.parameters.items())
    digest = hashlib.sha256(repr(asked).encode())
    for name in sorted(request.inputs):
        tensor = request.inputs[name]
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()


def _write(path: Path, response: Tensor) -> None:
    """Write a file that begins with the SHA-256 of the rest."""
    arrays = {"frames": response}
    if response.dtype == object:  # encoded frames, as bytes
        units = [bytes(unit) for unit in response.ravel()]
        sizes = np.array([len(unit) for unit in units], np.int64).reshape(response.shape)
        arrays = {"sizes": sizes, "data": np.frombuffer(b"".join(units), np.uint8)}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            file.write(hashlib.sha256(buffer.getbuffer()).digest())
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as e:
        raise OutputError(f"{path} cannot be written: {e.strerror}") from e


def _read(path: Path) -> Tensor | None:
    """Return the response in a file; None if there is none, or a damaged one."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    data = memoryview(content)[_DIGEST_BYTES:]
    if hashlib.sha256(data).digest() != content[:_DIGEST_BYTES]:
        return None
    with np.load(io.BytesIO(data)) as arrays:
        if "frames" in arrays:
            return np.asarray(arrays["frames"])
        sizes, units = arrays["sizes"], arrays["data"].tobytes()
    response = np.empty(sizes.shape, object)
    ends = zip(np.cumsum(sizes.ravel()), sizes.ravel(), strict=True)
    response.ravel()[:] = [units[end - size : end] for end, size in ends]
    return response
