"""The place of a result: a new file, a folder of images, or a pipe."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .._errors import OutputError
from .formats import FOLDERS, STDOUT
from .partial import partial_output
from .pipe import Pipe

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # as a Path prints it, with one slash


def is_pipe(path: Path) -> bool:
    """Return whether a result is written to `path` itself: standard output, a FIFO or a device."""
    if path == STDOUT:
        return True
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def check_output_path(path: Path, *, folder: bool = False, force: bool = False) -> None:
    """Check that a result may be written to `path`, which no check changes.

    With `force`, a regular file is replaced, and so is a folder that holds exactly the images of an earlier
    render. Everything else that exists is refused. A symbolic link stands for its target.

    Args:
        path: a path that is no pipe.
        folder: the result is a folder of images.
        force: replace an earlier result.

    Raises:
        OutputError: the path is taken, or nothing can be written there.
    """
    try:
        target = Path(os.path.realpath(path))
        if not target.parent.is_dir():
            if _URL.match(str(path)):
                raise OutputError(
                    f"{path} is a URL, and a render is written to a path of this machine"
                )
            raise OutputError(f"{path}: the directory {target.parent} does not exist")
        try:
            mode = target.stat().st_mode
        except FileNotFoundError:
            pass
        else:
            _check_existing(path, target, mode, folder, force)
        if not os.access(target.parent, os.W_OK | os.X_OK):
            raise OutputError(
                f"{path}: nothing can be written to {target.parent}, because of its permissions or a"
                " read-only file system"
            )
    except (OSError, ValueError) as e:
        raise OutputError(f"{path} cannot be written: {getattr(e, 'strerror', None) or e}") from e


@contextmanager
def open_output_path(
    path: Path, *, folder: bool = False, force: bool = False
) -> Iterator[Path | Pipe]:
    """Yield what to write to: a pipe, or a path that becomes `path` if the block ends without an exception.

    Args:
        path: a path that `check_output_path` accepts, or a pipe.
        folder, force: as for `check_output_path`, which is called again when the result is complete.

    Raises:
        OutputError: the result cannot be written, or the path was taken in the meantime.
    """
    if is_pipe(path):
        pipe = Pipe(sys.stdout.fileno() if path == STDOUT else path)
        try:
            yield pipe
        finally:
            pipe.close()
        return
    try:
        with partial_output(
            Path(os.path.realpath(path)),
            folder=folder,
            check=lambda: check_output_path(path, folder=folder, force=force),
        ) as partial:
            yield partial
    except OSError as e:
        raise OutputError(f"{path} cannot be written: {e.strerror or e}") from e


def _check_existing(path: Path, target: Path, mode: int, folder: bool, force: bool) -> None:
    if stat.S_ISREG(mode):
        if folder:
            raise OutputError(f"{path} is a file; the images need a folder")
        if not force:
            raise OutputError(f"{path} exists already; --force replaces it")
    elif not stat.S_ISDIR(mode):
        raise OutputError(f"{path} is neither a file nor a folder nor a pipe")
    elif not folder:
        raise OutputError(f"{path} is a folder; name a file in it")
    else:
        _check_folder(path, target, force)


def _check_folder(path: Path, target: Path, force: bool) -> None:
    if target == Path.cwd() or target in Path.cwd().parents or os.path.ismount(target):
        raise OutputError(
            f"{path} is a mount point or holds the current directory, so it cannot be replaced; name a"
            " new folder"
        )
    names = [entry.name for entry in target.iterdir()]
    if not names:
        return
    suffix = Path(names[0]).suffix[1:]
    images = {f"{n:06d}.{suffix}" for n in range(len(names))} if suffix in FOLDERS else set()
    other = next((n for n in sorted(names) if n not in images or _is_special(target / n)), None)
    if other is not None:
        raise OutputError(
            f"{path} holds {other!r}, which is not from a render: nothing in it is touched; name a new"
            " folder"
        )
    if not force:
        raise OutputError(f"{path} holds the images of an earlier render; --force replaces them")


def _is_special(path: Path) -> bool:
    return not stat.S_ISREG(path.lstat().st_mode)
