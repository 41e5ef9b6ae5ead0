"""Speech with the times of its phonemes, from espeak-ng's library."""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from typing import Any

import espeakng_loader
import numpy as np
import soxr
from numpy.typing import NDArray

SAMPLE_RATE = 16_000  # Hz
_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: samples come through the callback
_PHONEME_EVENTS, _IPA = 1, 2
_EVENT_END, _EVENT_PHONEME = 0, 7
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_UTF8 = 1


@dataclass(frozen=True)
class Phoneme:
    """One phoneme as IPA ("" is a pause), with times in seconds from the clip's beginning."""

    ipa: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Speech:
    """Speech with its phonemes.

    Attributes:
        samples: float32 [n], mono, 16 kHz, -1..1.
    """

    samples: NDArray[np.float32]
    phonemes: list[Phoneme]


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@functools.cache
def _library() -> tuple[Any, int]:
    """Return the library and its sample rate; the process has one."""
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    data = espeakng_loader.get_data_path().encode()
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data, _PHONEME_EVENTS | _IPA)
    if rate <= 0:
        raise RuntimeError("espeak-ng could not be initialised")
    return library, rate


def speak(text: str, voice: str, words_a_minute: int = 160, pitch: int = 50) -> Speech:
    """Speak a text.

    Args:
        text: in the voice's language.
        voice: espeak-ng's name, e.g. "en-us+f2".
        words_a_minute: 80..450.
        pitch: 0..99.

    Raises:
        ValueError: espeak-ng has no such voice.
    """
    library, rate = _library()
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise ValueError(f"voice: espeak-ng has none called {voice!r}")
    library.espeak_SetParameter(_RATE, words_a_minute, 0)
    library.espeak_SetParameter(_PITCH, pitch, 0)
    blocks: list[bytes] = []
    marks: list[tuple[float, str]] = []

    def collect(samples: Any, count: int, events: Any) -> int:
        if samples and count:
            blocks.append(ctypes.string_at(samples, count * 2))
        i = 0
        while events[i].type != _EVENT_END:
            if events[i].type == _EVENT_PHONEME:
                marks.append((events[i].sample / rate, events[i].id.string.decode(errors="ignore")))
            i += 1
        return 0

    callback = _Callback(collect)
    library.espeak_SetSynthCallback(callback)
    data = text.encode()
    library.espeak_Synth(data, len(data) + 1, 0, 1, 0, _UTF8, None, None)
    library.espeak_Synchronize()
    samples = np.frombuffer(b"".join(blocks), np.int16).astype(np.float32) / 32768.0
    ends = [start for start, _ in marks[1:]] + [len(samples) / rate]
    phonemes = [Phoneme(ipa, start, end) for (start, ipa), end in zip(marks, ends, strict=True)]
    return Speech(np.asarray(soxr.resample(samples, rate, SAMPLE_RATE), np.float32), phonemes)
