"""The live sessions that a server with a profile carries at 25 frames per second."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lipsync_preprocessing.contract import FRAME_RATE

# The share of a render's frames per second that live sessions get (docs/live.md): they request few frames at
# once, and their clients take a part of the cores.
_SHARE = 0.75


def live_sessions(fps: float) -> int:
    """Return the live sessions that a server carries; at least one.

    Args:
        fps: frames per second of a render.
    """
    return max(1, math.floor(_SHARE * fps / FRAME_RATE))


def measured_live_sessions(rates: Mapping[int, float]) -> tuple[int, str]:
    """Return the live sessions, and their reason for the head of the profile's files.

    Args:
        rates: frames per second by the number of frames per request; the best one counts, as it was
            disturbed least.
    """
    fps = max(rates.values())
    return live_sessions(fps), f"Live sessions: {_SHARE:g} of {fps:.1f} frames per second."


def live_sessions_line(sessions: int | None, otherwise: str) -> str:
    """Return the line that tells the number, or the reason why there is none."""
    told = f"not known, {otherwise}" if sessions is None else str(sessions)
    return f"live sessions at {FRAME_RATE} fps: {told}"
