"""The motion of the drawn avatar: sway, breathing, blinks. Everything is a function of the frame number."""

from __future__ import annotations

import math
from dataclasses import dataclass

FRAMES = 125
FPS = 25
WIDTH, HEIGHT = 1280, 720

FACE_SIDE = 250.0
"""Side of the face square at scale 1, pixels."""
FACE_LEFT, FACE_TOP = -125.0, -72.0
"""Upper left corner of the face square, in the head's own coordinates."""

HEAD_X, HEAD_Y = 640.0, 352.0
"""Position at rest of the middle of the head, pixels."""

_BLINK_CENTRES = (29.0, 84.0, 91.5)
_BLINK_HALF_FRAMES = 3.5


@dataclass(frozen=True)
class Pose:
    """The pose of the head: pixels, degrees, and -1..1 for turn and nod; `lid` is 0 open .. 1 shut."""

    x: float
    y: float
    scale: float
    roll_deg: float
    turn: float
    nod: float
    lid: float
    breath: float


def pose(frame: int) -> Pose:
    """Return the pose of frame `frame`, 0..FRAMES-1.

    Each term is a cosine with a whole number of half periods over the loop, so the head is at rest
    at both ends, where the ping-pong order turns back.
    """
    if not 0 <= frame < FRAMES:
        raise ValueError(f"frame: expected 0..{FRAMES - 1}, got {frame}")
    phase = math.pi * frame / (FRAMES - 1)

    def wave(halves: int) -> float:
        return math.cos(halves * phase)

    return Pose(
        x=HEAD_X + 13.0 * wave(2) + 5.0 * wave(3),
        y=HEAD_Y + 4.0 * wave(4) - 3.0 * wave(1),
        scale=1.0 - 0.030 * wave(1) + 0.008 * wave(4),
        roll_deg=-2.2 * wave(2) + 1.0 * wave(5),
        turn=0.75 * wave(2) + 0.25 * wave(3),
        nod=0.6 * wave(3) - 0.4 * wave(4),
        lid=max(_lid(frame - centre) for centre in _BLINK_CENTRES),
        breath=wave(4),
    )


def _lid(distance: float) -> float:
    """Return how far the eye is shut: a raised cosine about the blink, flat at the top for two frames."""
    if abs(distance) >= _BLINK_HALF_FRAMES:
        return 0.0
    return min(1.0, 0.75 * (1.0 + math.cos(math.pi * distance / _BLINK_HALF_FRAMES)))


def face_rect(frame: int) -> tuple[int, int, int, int]:
    """Return the face square of a frame, x1, y1, x2, y2 in whole pixels."""
    at = pose(frame)
    side = round(FACE_SIDE * at.scale)
    x1 = round(at.x + FACE_LEFT * at.scale)
    y1 = round(at.y + FACE_TOP * at.scale)
    return x1, y1, x1 + side, y1 + side
