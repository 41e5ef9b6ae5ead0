"""Audio files for the client's tests."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

RATES = (8000, 16000, 22050, 44100, 48000)
LAYOUTS = {1: "mono", 2: "stereo"}


def voices(rate: int, channels: int, seconds: float) -> NDArray[Any]:
    """Return speech-like audio: float32 (channels, samples), each channel another pitch."""
    rng = np.random.default_rng(rate + channels)
    t = np.arange(int(seconds * rate)) / rate
    samples = [
        0.3 * np.sin(2 * np.pi * (170 + 60 * c) * t) * (np.sin(2 * np.pi * (3 + c) * t) > 0)
        + 0.02 * rng.standard_normal(len(t))
        for c in range(channels)
    ]
    return np.asarray(samples, np.float32)


def write_wav(path: Path, rate: int, channels: int, seconds: float = 1.3) -> Path:
    """Write speech-like audio as 16-bit PCM."""
    soundfile.write(path, voices(rate, channels, seconds).T, rate, subtype="PCM_16")
    return path


def encode(
    path: Path,
    samples: NDArray[Any],
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


def broken_files(directory: Path) -> dict[str, Path]:
    """Write files that a client must refuse, and return them by name."""
    files = {name: directory / name for name in ("text.wav", "empty.wav", "silent.mp4", "none.wav")}
    files["text.wav"].write_text("this is no audio\n" * 50)
    files["empty.wav"].write_bytes(b"")
    with av.open(str(files["silent.mp4"]), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        for _ in range(5):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        out.mux(stream.encode(None))
    files["headers.wav"] = write_wav(directory / "headers.wav", 16000, 1, seconds=0)
    files["directory"] = directory
    return files
