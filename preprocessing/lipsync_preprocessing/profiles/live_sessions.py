"""The live sessions that a server with a profile carries at 25 frames per second."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lipsync_preprocessing.contract import FRAME_RATE

# Seconds that a frame of a live session takes longer than one of a render: sessions request few frames at
# once, and their clients take a part of the cores. It fits all that docs/live.md measured.
_MORE_S = 0.004


def live_sessions(fps: float) -> int:
    """Return the live sessions that a server carries; at least one.

    Args:
        fps: frames per second of a render.
    """
    return max(1, math.floor(1 / (1 / fps + _MORE_S) / FRAME_RATE))


def measured_live_sessions(rates: Mapping[int, float]) -> tuple[int, str]:
    """Return the live sessions, and their reason for the head of the profile's files.

    Args:
        rates: frames per second by the number of frames per request; the best one counts, as it was
            disturbed least.
    """
    fps = max(rates.values())
    why = f"from {fps:.1f} frames per second, and {1000 * _MORE_S:g} ms more a frame"
    return live_sessions(fps), f"Live sessions: {why}."


def live_sessions_line(sessions: int | None, otherwise: str) -> str:
    """Return the line that tells the number, or the reason why there is none."""
    told = f"not known, {otherwise}" if sessions is None else str(sessions)
    return f"live sessions at {FRAME_RATE} fps: {told}"
