"""Partial results: hidden files and folders that become the result when they are complete."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_NAME = ".lipsync-{}.partial"
_TOKEN_BYTES = 4


@contextmanager
def partial_output(
    target: Path, *, folder: bool = False, check: Callable[[], None] = lambda: None
) -> Iterator[Path]:
    """Yield a path beside `target`, which becomes `target` if the block ends without an exception.

    The partial results that killed processes left in the same directory are deleted first. Each process
    holds a lock on its own, so those of running processes stay, in other containers too.

    Args:
        target: the path of the result; what is there is replaced.
        folder: the result is a folder; otherwise it is a file, which is created empty.
        check: called before `target` is replaced; it raises an exception if it may not be.

    Raises:
        OSError: the result cannot be written.
    """
    _delete_abandoned(target.parent)
    partial, lock = _create(target.parent, folder)
    try:
        yield partial
        check()
        if not folder:
            os.fsync(lock)
        elif target.is_dir():
            _replace_folder(partial, target)
            return
        partial.replace(target)
    finally:
        _delete(partial)
        os.close(lock)


def _create(directory: Path, folder: bool) -> tuple[Path, int]:
    """Create a partial result and return its path and a file descriptor that holds its lock."""
    while True:
        path = directory / _NAME.format(secrets.token_hex(_TOKEN_BYTES))
        if folder:
            path.mkdir()
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        else:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock).st_nlink:
            return path, lock
        os.close(lock)  # another process took it for an abandoned one before it was locked


def _delete_abandoned(directory: Path) -> None:
    for path in directory.glob(_NAME.format("?" * 2 * _TOKEN_BYTES)):
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _delete(path)
            finally:
                os.close(descriptor)


def _replace_folder(partial: Path, target: Path) -> None:
    """Put a folder in the place of another one and delete that."""
    old = partial.with_name(_NAME.format(secrets.token_hex(_TOKEN_BYTES)))
    target.rename(old)
    try:
        partial.rename(target)
    except OSError:
        old.rename(target)
        raise
    _delete(old)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
