"""Sound files for the client's tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATES = (8000, 16000, 22050, 44100, 48000)


def write_sound(path: Path, rate: int, channels: int, seconds: float = 1.3) -> Path:
    """Speech-like sound as 16-bit PCM."""
    rng = np.random.default_rng(rate + channels)
    t = np.arange(int(seconds * rate)) / rate
    voices = [
        0.3 * np.sin(2 * np.pi * (170 + 60 * c) * t) * (np.sin(2 * np.pi * (3 + c) * t) > 0)
        + 0.02 * rng.standard_normal(len(t))
        for c in range(channels)
    ]
    soundfile.write(path, np.stack(voices, 1), rate, subtype="PCM_16")
    return path
