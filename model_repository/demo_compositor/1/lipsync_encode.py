"""Frames to JPEG and to H.264 access units."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

FPS = 25
MAX_RAW_BYTES = 512 * 2**20  # of a response; each passes through several buffers of the server
PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow",
)  # fmt: skip


class OptionError(ValueError):
    """A mistake of the caller; the response is INVALID_ARG."""


@dataclass(frozen=True)
class Options:
    """The options of the encoders, given as Triton request parameters.

    Attributes:
        crf: H.264 quality, 0 (lossless) to 51.
        preset: x264's speed preset.
        keyint: most frames from one IDR to the next, 1 to 1000; None: one IDR a request.
        jpeg_quality: 1 to 100.
    """

    crf: int = 20
    preset: str = "superfast"
    keyint: int | None = None
    jpeg_quality: int = 90

    @classmethod
    def parse(cls, parameters: dict[str, Any]) -> Options:
        """Return the options of a request; parameters of other names are ignored.

        Raises:
            OptionError: the message says what was expected and what came.
        """
        preset = parameters.get("preset", cls.preset)
        if preset not in PRESETS:
            raise OptionError(
                f"parameter preset must be one of {', '.join(PRESETS)}, got {preset!r}"
            )
        return cls(
            crf=_integer(parameters, "crf", cls.crf, 0, 51),
            preset=preset,
            keyint=_integer(parameters, "keyint", 0, 1, 1000) if "keyint" in parameters else None,
            jpeg_quality=_integer(parameters, "jpeg_quality", cls.jpeg_quality, 1, 100),
        )


def _integer(parameters: dict[str, Any], name: str, default: int, low: int, high: int) -> int:
    value = parameters.get(name, default)
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = low - 1
    if isinstance(value, bool | float) or not low <= number <= high:
        raise OptionError(
            f"parameter {name} must be an integer from {low} to {high}, got {value!r}"
        )
    return number


def check_raw_size(name: str, count: int, shape: tuple[int, ...]) -> None:
    """Check that `count` raw frames of a shape are not too much for one response.

    Raises:
        OptionError: they are more than MAX_RAW_BYTES.
    """
    size = math.prod(shape)
    if count * size > MAX_RAW_BYTES:
        raise OptionError(
            f"{name}: expected at most {MAX_RAW_BYTES >> 20} MiB of raw frames in one response, but {count}"
            f" frames are {count * size >> 20} MiB; ask for at most {MAX_RAW_BYTES // size} frames at once,"
            " or for JPEG or H264"
        )


def jpeg(frame: NDArray[np.uint8], quality: int) -> bytes:
    """Return a uint8 (H, W, 3) BGR frame as JPEG."""
    ok, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise RuntimeError("OpenCV could not encode a frame as JPEG")
    return bytes(data)


def h264(frames: Iterable[NDArray[np.uint8]], options: Options) -> list[bytes]:
    """Return one Annex-B access unit per frame: an IDR first, SPS and PPS in each IDR, no B-frames.

    Args:
        frames: uint8 (H * 3 / 2, W) I420, BT.601, limited range; one buffer may serve for all.
        options: crf, preset and keyint.
    """
    units: list[bytes] = []
    context: av.VideoCodecContext | None = None
    for n, image in enumerate(frames):
        if context is None:
            context = _encoder(image.shape[1], image.shape[0] * 2 // 3, options)
        # No copy: x264 takes its own before encode() returns, and only then is the next frame composed.
        # (PyAV takes rows in sixes there, and would drop the last of an image with odd chroma rows.)
        wrap = (
            av.VideoFrame.from_numpy_buffer if len(image) % 6 == 0 else av.VideoFrame.from_ndarray
        )
        frame = wrap(image, format="yuv420p")
        frame.pts = n
        units.extend(bytes(packet) for packet in context.encode(frame))
    if context is not None:
        units.extend(bytes(packet) for packet in context.encode(None))
    return units


def _encoder(width: int, height: int, options: Options) -> av.VideoCodecContext:
    context = av.CodecContext.create("libx264", "w")
    if not isinstance(context, av.VideoCodecContext):
        raise RuntimeError("FFmpeg's libx264 is not a video encoder here")
    context.width, context.height = width, height
    context.pix_fmt = "yuv420p"
    context.time_base = Fraction(1, FPS)
    context.framerate = Fraction(FPS)
    context.options = {
        "preset": options.preset,
        "tune": "zerolatency",  # one unit out for every frame in: no look-ahead, no reordering
        "crf": str(options.crf),
        # An IDR a request, more if asked for; parallelism comes from requests, not from slicing a frame.
        # Without adaptive quantisation and weighted prediction: less time, and more quality at the same size
        # (docs/speed.md).
        "x264-params": f"keyint={options.keyint or 'infinite'}:min-keyint=1"
        ":scenecut=0:bframes=0:threads=1:sliced-threads=0:aq-mode=0:weightp=0"
        ":colorprim=smpte170m:transfer=smpte170m:colormatrix=smpte170m:range=tv",
    }
    return context
