"""Audio files for the client's tests."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile

RATES = (8000, 16000, 22050, 44100, 48000)
LAYOUTS = {1: "mono", 2: "stereo"}


def voices(rate: int, channels: int, seconds: float) -> np.ndarray:
    """Return speech-like audio: float32 (channels, samples), each channel another pitch."""
    rng = np.random.default_rng(rate + channels)
    t = np.arange(int(seconds * rate)) / rate
    return np.stack(
        [
            0.3 * np.sin(2 * np.pi * (170 + 60 * c) * t) * (np.sin(2 * np.pi * (3 + c) * t) > 0)
            + 0.02 * rng.standard_normal(len(t))
            for c in range(channels)
        ]
    ).astype(np.float32)


def write_wav(path: Path, rate: int, channels: int, seconds: float = 1.3) -> Path:
    """Write speech-like audio as 16-bit PCM."""
    soundfile.write(path, voices(rate, channels, seconds).T, rate, subtype="PCM_16")
    return path


def encode(
    path: Path,
    samples: np.ndarray,
    rate: int,
    codec: str,
    container: str | None = None,
    gap_after_s: float | None = None,
) -> Path:
    """Encode float32 (channels, samples) into a file.

    With `gap_after_s`, the time stamps after that time leave out two hundred milliseconds.
    """
    layout = LAYOUTS[len(samples)]
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples), format="fltp", layout=layout
        )
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            if gap_after_s is not None and packet.pts > gap_after_s * rate:
                packet.pts = packet.dts = packet.pts + rate // 5
            out.mux(packet)
    return path
