"""The place of the model repository."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from platformdirs import user_data_path

from lipsync_preprocessing.bundle.contents import IN_CHECKOUT, MODELS
from lipsync_preprocessing.bundle.making import make_repository
from lipsync_preprocessing.errors import RepositoryError

_FOLDER = "lipsync-triton"
_NAME = "models"


def find_repository(named: Path | None, say: Callable[[str], object]) -> Path:
    """Return the model repository of a command, and say where it is.

    It is made on first use, and brought up to date after an upgrade of this package; see `make_repository`.

    Args:
        named: the place that an option or the environment names; None for `default_repository()`.
        say: called with one line.

    Raises:
        RepositoryError: it cannot be made.
    """
    root = default_repository() if named is None else named
    if not make_repository(root, say):
        say(f"model repository: {root}")
    return root


def default_repository() -> Path:
    """Return the place of the repository that no option names.

    It is the checkout's own `model_repository` in an editable installation, and else a folder in the
    user's data folder. Where that cannot be written (a service without a home), it is in a folder of
    temporary files that only this user can write.

    Raises:
        RepositoryError: the folder of temporary files belongs to another user.
    """
    if IN_CHECKOUT:
        return MODELS
    place = user_data_path(_FOLDER, appauthor=False) / _NAME
    there = next(path for path in (place, *place.parents) if os.access(path, os.F_OK))
    if there == place or (there.is_dir() and os.access(there, os.W_OK)):
        return place
    return _own_temporary_folder() / _NAME


def _own_temporary_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"{_FOLDER}-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    # Models are programs: what another user could put there would run as this one.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise RepositoryError(
            f"{folder}: expected a folder that only this user can write; name a model repository with"
            " --repository or LIPSYNC_REPOSITORY"
        )
    return folder
