"""Reading the audio of a file at its own times, as the service hears it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import soxr

from lipsync_preprocessing.errors import RecordingError
from lipsync_preprocessing.recording.opened import Opened

SAMPLE_RATE = 16_000  # Hz
_ROUNDING = 50  # parts of a second by which time stamps may differ without a gap

Samples = npt.NDArray[np.float32]


def read_audio(path: Path, start: Fraction, seconds: float | None) -> Samples:
    """Return the first audio stream: float32 [n], mono, 16 kHz.

    Args:
        path: the file.
        start: the time stamp of the first sample that is returned, in seconds. Where the stream begins later,
            or has a gap, there is silence.
        seconds: the most that is returned; None for all.

    Raises:
        RecordingError: the file has no audio, or cannot be decoded.
    """
    blocks: list[tuple[int, Samples]] = []
    with Opened(path) as container:
        if not container.streams.audio:
            raise RecordingError(f"{path}: expected speech, it has no audio")
        stream = container.streams.audio[0]
        rate, at = stream.rate, 0
        resampler = av.AudioResampler("fltp", stream.layout, rate)
        for frame in container.decode(stream):
            for part in resampler.resample(frame):
                block = part.to_ndarray().mean(axis=0).astype(np.float32)
                if part.pts is not None and part.time_base is not None:
                    stamp = round((part.pts * part.time_base - start) * rate)
                    # Stamps are rounded: only a real gap, or a beginning elsewhere, moves the audio.
                    at = stamp if not blocks or abs(stamp - at) > rate // _ROUNDING else at
                blocks.append((at, block))
                at += len(block)
    if not blocks:
        raise RecordingError(f"{path}: expected speech, its audio stream is empty")
    last = max(begin + len(block) for begin, block in blocks)
    if seconds is not None:
        last = min(last, round(seconds * rate))
    samples = np.zeros(max(last, 0), np.float32)
    for begin, block in blocks:
        inside = block[max(0, -begin) : max(0, last - begin)]
        samples[max(0, begin) : max(0, begin) + len(inside)] = inside
    if rate == SAMPLE_RATE or not len(samples):
        return samples
    return np.asarray(soxr.resample(samples, rate, SAMPLE_RATE), np.float32)
