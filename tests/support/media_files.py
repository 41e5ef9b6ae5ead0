"""The streams of a media file, as packets and as decoded frames and samples."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from numpy.typing import NDArray


def video_frames(path: Path) -> list[NDArray[Any]]:
    """Return the decoded video frames in I420."""
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="yuv420p") for frame in file.decode(video=0)]


def packets(path: Path, kind: Literal["video", "audio"]) -> list[av.Packet[Any]]:
    """Return the packets of the first video or audio stream."""
    with av.open(str(path)) as file:
        stream = (file.streams.video if kind == "video" else file.streams.audio)[0]
        return [packet for packet in file.demux(stream) if packet.size]


def decoded_audio(path: Path) -> tuple[float, NDArray[Any], int]:
    """Return the start of the decoded audio in seconds, its samples, and their rate."""
    with av.open(str(path)) as file:
        frames = [f for f in file.decode(audio=0) if f.samples]
    samples = np.concatenate(
        [f.to_ndarray().reshape(-1).astype(np.float64) for f in frames]
    )  # mono
    if frames[0].format.name.startswith("s"):
        samples = samples / np.iinfo(frames[0].to_ndarray().dtype).max
    return float(frames[0].pts * frames[0].time_base), samples, frames[0].sample_rate


def codecs(path: Path) -> list[str]:
    """Return the sorted names of the streams' codecs."""
    with av.open(str(path)) as file:
        return sorted(s.codec_context.codec.canonical_name for s in file.streams)


def assert_in_step(path: Path, frames: int) -> None:
    """Assert that decoded video and audio begin at 0 and have the same length."""
    with av.open(str(path)) as file:
        times = [f.pts * f.time_base for f in file.decode(video=0)]
    millisecond = Fraction(1, 1000)  # Matroska's unit of time
    assert len(times) == frames
    assert all(abs(t - Fraction(n, 25)) < millisecond for n, t in enumerate(times))
    start, samples, rate = decoded_audio(path)
    # An encoder's delay lies before 0. Without one, the first whole packet begins at 0 or after.
    assert -0.027 < start < 0.027
    assert abs(start + len(samples) / rate - frames / 25) < 1 / 25 + 1024 / rate
