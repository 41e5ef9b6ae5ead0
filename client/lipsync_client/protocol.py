"""Frames and samples: the arithmetic that a client of the service needs.

The clients of this package are built on it, and a client of your own can be: it needs no signal processing. A
clip is mono audio of SAMPLE_RATE, a frame one 25th of a second of video. A request carries a slice of the
clip, and the slice must hold the samples that its frames depend on.

To cut slices exactly, use `sample_range`. To cut them with fixed margins: the frames first … last need no
sample before `SAMPLES_PER_FRAME * first - MARGIN_BEFORE` and none from `SAMPLES_PER_FRAME * last +
MARGIN_AFTER` on (0.395 s and 0.4525 s; a slice ends where the clip does). A slice may hold more than its
frames need.

Example:
    samples = len(clip)
    for first in range(0, frame_count(samples), 32):
        count = min(32, frame_count(samples) - first)
        begin, end = sample_range(samples, first, count)
        ...  # AUDIO: clip[begin:end]; AUDIO_START: begin; CLIP_SAMPLES: samples;
        ...  # FRAME_START: first; FRAME_COUNT: count

The server's `mel` model decides what a slice must hold, and refuses one that holds less; the tests compare
this module with it.
"""

from __future__ import annotations

SAMPLE_RATE = 16_000  # Hz
FPS = 25  # frames per second, exactly
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
HOP = 200  # samples per mel column: 80 columns a second
HALF_FFT = 400  # samples that a column reaches to both sides of its centre
WINDOW = 16  # columns of a mel window
MIN_SAMPLES = (WINDOW - 1) * HOP  # the server pads a shorter clip with silence to this length
BEFORE, AFTER = 8, 7  # embeddings that a frame takes before and after its own
LIVE = -1  # CLIP_SAMPLES of a clip that is still being recorded

# Samples before and after a frame's first sample that are always enough.
MARGIN_BEFORE = 6_321
MARGIN_AFTER = 7_240

__all__ = [
    "AFTER",
    "BEFORE",
    "FPS",
    "HALF_FFT",
    "HOP",
    "LIVE",
    "MARGIN_AFTER",
    "MARGIN_BEFORE",
    "MIN_SAMPLES",
    "SAMPLES_PER_FRAME",
    "SAMPLE_RATE",
    "WINDOW",
    "frame_count",
    "live_end",
    "live_frames",
    "sample_range",
]


def frame_count(samples: int) -> int:
    """Return the number of video frames of a clip.

    The float expression is that of the reference implementation (docs/contract.md); rounding down in integers
    differs for some clips (368 columns over 16 make 114, not 115).

    Args:
        samples: length of the clip at SAMPLE_RATE.
    """
    columns = 1 + max(samples, MIN_SAMPLES) // HOP
    return int((columns - WINDOW) / 80 * 25) + 4


def sample_range(samples: int, first: int, count: int) -> tuple[int, int]:
    """Return the samples [begin, end) that the frames first … first + count - 1 depend on.

    Args:
        samples: length of the whole clip, or LIVE.
        first: number of the first frame, from 0.
        count: number of frames, at least 1; a clip that is not LIVE must have them.
    """
    last = first + count - 1
    begin, end = _first_column(max(first - BEFORE, 0)), _first_column(last + AFTER)
    if samples != LIVE:
        windows = frame_count(samples) - 2
        latest = max(samples, MIN_SAMPLES) // HOP + 1 - WINDOW
        begin = min(_first_column(min(first - BEFORE, windows)), latest)
        end = min(_first_column(min(last + AFTER, windows)), latest)
    stop = _end_of_column(end + WINDOW - 1)
    return max(begin * HOP - HALF_FFT - 1, 0), stop if samples == LIVE else min(stop, samples)


def live_end(frame: int) -> int:
    """Return the length of a clip that is still being recorded at which a frame can be requested.

    Args:
        frame: its number; those before it can be requested too.
    """
    return _end_of_column(_first_column(frame + AFTER) + WINDOW - 1)


def live_frames(samples: int) -> int:
    """Return the number of frames that can be requested of a clip that is still being recorded.

    Args:
        samples: recorded so far.
    """
    frames = max(0, (samples - live_end(0)) * FPS // SAMPLE_RATE - 2)
    while live_end(frames) <= samples:
        frames += 1
    return frames


def _first_column(entry: int) -> int:
    """Return the first mel column of an entry of the feature list, which holds the first window twice."""
    return 16 * max(entry - 1, 0) // 5


def _end_of_column(column: int) -> int:
    return column * HOP + HALF_FFT
