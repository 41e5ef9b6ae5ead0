"""Results that appear complete or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .._errors import OutputError


def refuse_existing(path: Path, force: bool) -> None:
    """Check, before any work is done, that a result may be written to `path`.

    Raises:
        OutputError: the path exists and may not be replaced, or its directory is missing.
    """
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the directory {path.parent} does not exist")
    if path.is_dir() and any(path.iterdir()) and not force:
        raise OutputError(f"{path} is a directory with files in it; --force replaces it")
    if path.exists() and not path.is_dir() and not force:
        raise OutputError(f"{path} exists already; --force replaces it")


@contextmanager
def written_aside(path: Path, *, directory: bool = False) -> Iterator[Path]:
    """Yield a path beside `path`, which becomes `path` if the block ends without an exception."""
    aside = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        if directory:
            aside.mkdir()
        yield aside
        if path.is_dir():
            shutil.rmtree(path)
        aside.replace(path)
    except OSError as e:
        raise OutputError(f"{path} cannot be written: {e.strerror or e}") from e
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)
