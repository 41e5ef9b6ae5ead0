"""The embedded server, as far as this package uses it: a server of its own for trials and measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lipsync_preprocessing.errors import ModelControlError

if TYPE_CHECKING:
    from lipsync_embedded import Server

_PITCH_HZ, _SYLLABLES_HZ = 140, 4


def embedded_server() -> tuple[type[Server], type[Exception]]:
    """Return the class of the embedded server and its error; raise ModelControlError without them."""
    try:
        from lipsync_embedded import Server, ServerError
    except ImportError as error:
        raise ModelControlError(
            "this needs the embedded server: pip install 'lipsync-triton[embedded]'"
        ) from error
    return Server, ServerError


def speech(rate: int, seconds: float) -> npt.NDArray[np.float32]:
    """Return a buzz with the rhythm of syllables, float32 -1…1: enough to make a mouth move."""
    t = np.arange(round(rate * seconds)) / rate
    buzz = sum(np.sin(2 * np.pi * _PITCH_HZ * n * t) / n for n in range(1, 20))
    envelope = 0.5 - 0.5 * np.cos(2 * np.pi * _SYLLABLES_HZ * t)
    return np.asarray(0.2 * buzz * envelope, np.float32)
