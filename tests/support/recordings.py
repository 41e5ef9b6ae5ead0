"""Recordings: videos of a photographed or drawn face, with audio, as a phone or a camera writes them."""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

TICKS = 90_000  # a second, of the video's time stamps
AUDIO_RATE = 48_000
# A quarter turn clockwise: a phone that is held upright writes its sensor's rows, and this matrix.
_TURN = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)


def photograph() -> Array:
    """Return the astronaut of scikit-image (public domain, by NASA): uint8 (512, 512, 3) BGR."""
    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    assert spec.submodule_search_locations
    return np.asarray(cv2.imread(f"{spec.submodule_search_locations[0]}/data/astronaut.png"))


def pan(
    count: int, fps: float, size: tuple[int, int] = (640, 480)
) -> Iterator[tuple[Array, Array]]:
    """Yield frames of a camera that pans and zooms over the photograph, and the map into each, [2, 3]."""
    image = photograph()
    width, height = size
    for k in range(count):
        t = k / fps
        zoom = height / 480 * (2.3 + 0.2 * np.sin(2 * np.pi * t / 5))
        x, y = 224 + 20 * np.sin(2 * np.pi * t / 3), 140 + 10 * np.cos(2 * np.pi * t / 4)
        into = np.array([[zoom, 0, width / 2 - zoom * x], [0, zoom, height / 2 - zoom * y]])
        border = cv2.BORDER_REPLICATE
        yield cv2.warpAffine(image, into, size, flags=cv2.INTER_CUBIC, borderMode=border), into


def speech_like(seconds: float) -> Array:
    """Return bursts of noise with pauses, float32 [n] at 48 kHz."""
    t = np.arange(round(seconds * AUDIO_RATE)) / AUDIO_RATE
    noise = 0.1 * np.random.default_rng(0).standard_normal(len(t))
    return np.asarray(noise * (np.sin(2 * np.pi * 1.5 * t) > 0), np.float32)


def write_recording(
    path: Path,
    frames: Sequence[Array],
    fps: float = 25,
    *,
    times: Sequence[float] | None = None,
    audio: Array | None = None,
    audio_start_s: float = 0.0,
    turned: bool = False,
) -> Path:
    """Write an MP4 with H.264 and AAC.

    Args:
        path: the file.
        frames: uint8 (H, W, 3) BGR.
        fps: frames per second, where `times` does not give each frame's own second.
        times: seconds.
        audio: float32 [n] at 48 kHz; None for `speech_like`; empty for a video without audio.
        audio_start_s: time stamp of the first sample.
        turned: the frames are stored a quarter turn counterclockwise, and the file says so.
    """
    stamps = [k / fps for k in range(len(frames))] if times is None else times
    stored = [np.ascontiguousarray(np.rot90(f)) if turned else f for f in frames]
    samples = speech_like(len(frames) / fps) if audio is None else audio
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", Fraction(fps).limit_denominator(1001))
        video.height, video.width = stored[0].shape[:2]
        video.codec_context.time_base = Fraction(1, TICKS)  # frames may come at any time
        video.pix_fmt, video.options = "yuv420p", {"crf": "16", "preset": "ultrafast"}
        sound = container.add_stream("aac", AUDIO_RATE, layout="mono") if len(samples) else None
        for image, stamp in zip(stored, stamps, strict=True):
            frame = av.VideoFrame.from_ndarray(image, "bgr24")
            frame.pts, frame.time_base = round(stamp * TICKS), Fraction(1, TICKS)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if sound is not None:
            for begin in range(0, len(samples), 1024):
                part = av.AudioFrame.from_ndarray(
                    samples[None, begin : begin + 1024], "fltp", "mono"
                )
                part.sample_rate, part.time_base = AUDIO_RATE, Fraction(1, AUDIO_RATE)
                part.pts = begin + round(audio_start_s * AUDIO_RATE)
                container.mux(sound.encode(part))
            container.mux(sound.encode())
    if turned:
        data = bytearray(path.read_bytes())
        matrix = data.index(b"tkhd") + 4 + 40
        data[matrix : matrix + len(_TURN)] = _TURN
        path.write_bytes(data)
    return path
