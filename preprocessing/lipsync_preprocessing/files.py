"""Reading a user's files: regular files of a bounded size, never a pipe or a device."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lipsync_preprocessing.errors import AvatarError

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_file(path: Path, limit_bytes: int, error: type[AvatarError]) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        error: the file is missing, unreadable, not regular, larger than `limit_bytes`, or a Git LFS
            pointer in place of the file itself.
    """
    with _opened(path, error) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit_bytes:
            raise error(f"{path}: expected at most {limit_bytes >> 20} MiB, got {size >> 20} MiB")
        return file.read(limit_bytes)


def check_file(path: Path, error: type[AvatarError]) -> None:
    """Raise `error` unless a library may open the path: see `read_file`."""
    with _opened(path, error):
        pass


@contextmanager
def _opened(path: Path, error: type[AvatarError]) -> Iterator[BinaryIO]:
    try:
        # Without O_NONBLOCK, opening a named pipe waits until somebody writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as failure:
        raise error(f"{path}: cannot be read: {failure.strerror}") from failure
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise error(f"{path}: expected a regular file, got {kind}")
    with os.fdopen(descriptor, "rb") as file:
        try:
            head = file.read(len(_LFS_POINTER))
            file.seek(0)
        except OSError as failure:
            raise error(f"{path}: cannot be read: {failure.strerror}") from failure
        if head == _LFS_POINTER:
            raise error(
                f"{path}: is a Git LFS pointer, not the file itself; fetch it with: git lfs pull"
            )
        yield file
