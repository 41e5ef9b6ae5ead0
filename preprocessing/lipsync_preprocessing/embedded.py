"""The embedded server, as far as this package uses it: a server of its own for trials and measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lipsync_preprocessing.errors import ModelControlError

if TYPE_CHECKING:
    from lipsync_embedded import Server

_PITCH_HZ, _SYLLABLES_HZ = 120, 4
_HARMONICS = 34
_LEVEL = 0.25
# The first three formants of five vowels, Hz (Peterson and Barney, 1952).
_VOWELS = (
    (730, 1090, 2440),
    (270, 2290, 3010),
    (570, 840, 2410),
    (530, 1840, 2480),
    (300, 870, 2240),
)


def embedded_server() -> tuple[type[Server], type[Exception]]:
    """Return the class of the embedded server and its error; raise ModelControlError without them."""
    try:
        from lipsync_embedded import EmbeddedServerError, Server
    except ImportError as error:
        raise ModelControlError(
            "this needs the embedded server: pip install 'lipsync-triton[embedded]'"
        ) from error
    return Server, EmbeddedServerError


def speech(rate: int, seconds: float) -> npt.NDArray[np.float32]:
    """Return a row of vowels in the rhythm of syllables, float32 -1…1: like speech, to a network."""
    t = np.arange(round(rate * seconds)) / rate
    syllable = (t * _SYLLABLES_HZ).astype(int)
    voice = np.zeros(len(t))
    for number, formants in enumerate(_VOWELS):
        here = syllable % len(_VOWELS) == number
        for n in range(1, _HARMONICS + 1):
            hz = n * _PITCH_HZ
            resonance = sum(1 / (1 + ((hz - f) / (60 + 0.05 * f)) ** 2) for f in formants)
            weight = resonance / (1 + hz / 2000)
            voice[here] += weight * np.sin(2 * np.pi * hz * t[here])
    envelope = np.sin(np.pi * (t * _SYLLABLES_HZ % 1)) ** 0.7
    return np.asarray(_LEVEL * envelope * voice / np.abs(voice).max(), np.float32)
