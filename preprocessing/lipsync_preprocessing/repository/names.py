"""Names in a model repository.

An avatar NAME is three Triton models, NAME (the ensemble), NAME_generator and NAME_compositor, and
perhaps NAME_raw, the plain network.
"""

from __future__ import annotations

import re

from lipsync_preprocessing.errors import RepositoryError

TEMPLATE = "demo"
GENERATOR, COMPOSITOR, RAW = "_generator", "_compositor", "_raw"
PART_SUFFIXES = (GENERATOR, COMPOSITOR, RAW)
AUDIO_ENCODER, AUDIO_WINDOW = "audio_encoder", "audio_window"
SHARED = ("mel", AUDIO_ENCODER, AUDIO_WINDOW, "stream")
CONFIG = "config.pbtxt"
CONFIGS = "configs"  # Triton's name of the folder of other configs, for --model-config-name
PACK = "frames.npz"
# Triton's URLs, metrics and version folders take these names without quoting.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


def check_name(name: str) -> None:
    """Raise RepositoryError if the name cannot be an avatar's."""
    if not _NAME.fullmatch(name):
        raise RepositoryError(
            f"avatar name {name!r}: expected a letter, then up to 63 letters, digits, '_' or '-'"
        )
    if name in SHARED or name.startswith(AUDIO_ENCODER):
        raise RepositoryError(
            f"avatar name {name!r}: expected another, this one belongs to a shared model"
        )
    for suffix in PART_SUFFIXES:
        if name.endswith(suffix):
            raise RepositoryError(
                f"avatar name {name!r}: expected one without {suffix!r} at its end, which marks"
                " the models of an avatar"
            )
