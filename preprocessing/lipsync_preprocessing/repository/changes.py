"""Changes to a model repository: one at a time, and whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lipsync_preprocessing.errors import RepositoryError

_SCRATCH = ".lipsync-avatar-"


@contextmanager
def changing(root: Path, *, wait: bool = False) -> Iterator[Path]:
    """Lock a repository for a change; yield a scratch folder on its file system.

    The folder is deleted afterwards, as are those of changes that were killed.

    Args:
        root: the repository.
        wait: wait for the end of another change, instead of raising an error.

    Raises:
        RepositoryError: another change is going on, or the disk is full.
    """
    handle = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise RepositoryError(
                f"{root}: another lipsync-avatar is changing it; try again when it is done"
            ) from error
        prefix = f"{_SCRATCH}{root.name}-"
        for place in (root.parent, root):
            for stale in place.glob(prefix + "*"):
                shutil.rmtree(stale, ignore_errors=True)
        try:
            scratch = _scratch_place(root) / f"{prefix}{uuid.uuid4().hex[:8]}"
            try:  # first, so that an interruption during mkdir leaves no folder either
                scratch.mkdir(mode=0o700)
                yield scratch
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        except OSError as error:
            raise _to_error(error, root) from error
    finally:
        os.close(handle)


def _scratch_place(root: Path) -> Path:
    # Beside the repository, where a polling server does not take it for a model, if a folder can be
    # renamed from there.
    same = root.parent.stat().st_dev == root.stat().st_dev
    return root.parent if same and os.access(root.parent, os.W_OK) else root


def _to_error(error: OSError, root: Path) -> RepositoryError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(root).free >> 20
        return RepositoryError(
            f"{root}: the disk is full ({free} MiB free); nothing was changed, make room and try again"
        )
    return RepositoryError(f"{error.filename or root}: {error.strerror or error}")
