"""Recognise the drawn frames in a video."""

from __future__ import annotations

from motion import FRAMES


def pose_of(frame: int) -> int:
    """The avatar's frame shown with a video frame: a ping-pong that starts at 1 (contract)."""
    last = FRAMES - 1
    p = (frame + 1) % (2 * last)
    return p if p <= last else 2 * last - p
