"""Making a model repository of what this package brings, and bringing it up to date."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from lipsync_preprocessing.bundle.contents import DEMO_PACK, IN_CHECKOUT, MODELS, digest
from lipsync_preprocessing.errors import RepositoryError
from lipsync_preprocessing.repository.changes import changing
from lipsync_preprocessing.repository.names import CONFIG, TEMPLATE

# Two names, so that an installed package never overwrites the files of a checkout.
_STAMP, _STAMP_OF_CHECKOUT = ".lipsync-triton", ".built-from"
"""File in a repository with the digest of what it was made of; empty until it is made for the first time."""


def make_repository(root: Path, say: Callable[[str], object]) -> bool:
    """Make a repository, or bring its shared models and its demo avatar up to date.

    A folder that exists and was not made by this function is its owner's, and stays as it is. Other
    avatars are never touched, and a demo avatar that was removed stays away. In a checkout only the data
    of the demo avatar is made, in its own `model_repository`. Several processes may call this at once.

    Args:
        root: the repository; it may be missing or empty.
        say: called with one line if there is something to do, which takes a few seconds.

    Returns:
        whether `say` was called.

    Raises:
        RepositoryError: the repository cannot be made.
    """
    in_checkout = IN_CHECKOUT and root.resolve() == MODELS
    stamp = root / (_STAMP_OF_CHECKOUT if in_checkout else _STAMP)
    try:
        new = not root.exists() or all(path.name.startswith(".") for path in root.iterdir())
        if not (new or in_checkout or stamp.exists()):
            return False
        if not DEMO_PACK.is_file():
            raise RepositoryError(
                f"{root}: expected a model repository, there is none, and this installation brings no"
                " models: name another with --repository or LIPSYNC_REPOSITORY"
            )
        wanted = digest()
        if _text(stamp) == wanted:
            return False
        if not new and not os.access(root, os.W_OK):
            say(f"model repository: {root} (not up to date and not writable: used as it is)")
            return True
        say(f"{'updating' if _text(stamp) else 'making'} the model repository: {root}")
        root.mkdir(parents=True, exist_ok=True)
        with changing(root, wait=True) as scratch:
            before = _text(stamp)
            if before == wanted:  # another process made it meanwhile
                return True
            if before is None:
                stamp.touch()  # first: a folder with models and without this file is somebody else's
            from lipsync_preprocessing.bundle.filling import fill

            with_demo = not before or (root / TEMPLATE / CONFIG).is_file()
            fill(root, scratch, with_models=not in_checkout, with_demo=with_demo)
            (scratch / _STAMP).write_text(wanted)
            (scratch / _STAMP).replace(stamp)
    except ModuleNotFoundError as error:
        raise RepositoryError(
            f"{root}: the demo avatar is compiled with {error.name}, which is not installed:"
            " pip install 'lipsync-triton[embedded]'"
        ) from error
    except OSError as error:
        raise RepositoryError(
            f"{error.filename or root}: {error.strerror or error}; name a place for the model repository with"
            " --repository or LIPSYNC_REPOSITORY"
        ) from error
    return True


def _text(path: Path) -> str | None:
    return path.read_text() if path.is_file() else None
