"""Which samples which video frames need: index arithmetic alone, no signal processing.

The server's `mel` model decides what a slice must cover, and refuses a shorter one; the tests hold
this module to it.
"""

from __future__ import annotations

SAMPLE_RATE = 16_000  # Hz, of the audio sent
FPS = 25
HOP = 200  # samples a mel column: 80 columns a second
HALF_FFT = 400  # samples a column reaches to both sides of its centre
WINDOW = 16  # columns a mel window
MIN_SAMPLES = (WINDOW - 1) * HOP  # a shorter clip is padded with silence to this
BEFORE, AFTER = 8, 7  # feature-list entries a frame takes before and after its own
LIVE = -1  # CLIP_SAMPLES of a clip whose end is not known yet


def frame_count(samples: int) -> int:
    """Video frames of a clip of `samples`.

    The float expression is the reference's; it is not the integer floor (368 columns over 16 make
    114 and not 115).
    """
    columns = 1 + max(samples, MIN_SAMPLES) // HOP
    return int((columns - WINDOW) / 80 * 25) + 4


def live_end(frame: int) -> int:
    """Samples of a clip still being recorded that are enough for frames up to `frame`."""
    return _column_end(_start(frame + AFTER) + WINDOW - 1)


def live_frames(samples: int) -> int:
    """Frames for which `samples` of a clip still being recorded are enough."""
    frames = max(0, (samples - live_end(0)) * FPS // SAMPLE_RATE - 2)
    while live_end(frames) <= samples:
        frames += 1
    return frames


def sample_range(samples: int, first: int, count: int) -> tuple[int, int]:
    """Samples [begin, end) that frames first … first + count - 1 depend on.

    Args:
        samples: length of the whole clip, or LIVE.
    """
    last = first + count - 1
    begin, end = _start(max(first - BEFORE, 0)), _start(last + AFTER)
    if samples != LIVE:
        windows = frame_count(samples) - 2
        latest = max(samples, MIN_SAMPLES) // HOP + 1 - WINDOW
        begin = min(_start(min(first - BEFORE, windows)), latest)
        end = min(_start(min(last + AFTER, windows)), latest)
    stop = _column_end(end + WINDOW - 1)
    return max(begin * HOP - HALF_FFT - 1, 0), stop if samples == LIVE else min(stop, samples)


def _start(entry: int) -> int:
    """First mel column of an entry of the feature list: window entry - 1, the first one twice."""
    return 16 * max(entry - 1, 0) // 5


def _column_end(column: int) -> int:
    return column * HOP + HALF_FFT
