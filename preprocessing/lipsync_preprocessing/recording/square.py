"""From mesh points to the face square of the training code, steady over time, and to its landmark files.

The training code's detector has 110 points. The first 98 are in the order of WFLW: 33 of the contour from ear
to ear, the brows, the nose, the eyes, the lips. The square is spanned by three of them: 1 and 31, on the
contour one step below the ears, and 52, a third of the way down the bridge of the nose. On the mesh, 127 and
234 lie a sixteenth of the contour apart, as 0 and 2 of the 33 do, so 1 is their middle, and 31 that of 356
and 454; 197 is at the place of 52.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from lipsync_preprocessing.dataset.types import Rect

Floats = npt.NDArray[np.float64]

_LEFT, _RIGHT, _TOP = (127, 234), (356, 454), 197
_JUMP = 0.35  # of the square's side: a faster movement from frame to frame is a cut
# Frames that a parabola is fitted to, whose middle is the smoothed value (Savitzky and Golay, 1964): half a
# second follows a nod without lag. The size changes slowly, and shows its noise most.
_PLACE_WINDOW, _SIDE_WINDOW = 11, 25
_CONTOUR = (
    *(127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152),
    *(377, 400, 378, 379, 365, 397, 288, 361, 323, 454, 356),
)
_CONTOUR_POINTS = 33
_REST = (
    *(70, 63, 105, 66, 107, 55, 65, 52, 53),  # 33…41: a brow
    *(336, 296, 334, 293, 300, 283, 282, 295, 285),  # 42…50: the other
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),  # 51…59: the nose
    *(33, 160, 159, 158, 133, 153, 145, 144),  # 60…67: an eye
    *(362, 385, 386, 387, 263, 373, 374, 380),  # 68…75: the other
    *(61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91),  # 76…87: outer lips
    *(78, 81, 13, 311, 308, 402, 14, 178),  # 88…95: inner lips
    *(159, 386),  # 96, 97: the pupils
    *(
        50,
        280,
        205,
        425,
        187,
        411,
        123,
        352,
        117,
        346,
        101,
        330,
    ),  # 98…109: cheeks; nobody reads them
)
_X1_POINT, _X2_POINT, _Y1_POINT = 1, 31, 52


def squares(points: npt.NDArray[np.float32]) -> Floats:
    """Return middle x, top y and side of the face square of each frame, float64 [N, 3], not smoothed.

    Args:
        points: float32 [N, 468, 3]; NaN where the face is lost. Gaps are filled by straight lines.
    """
    x1 = points[:, _LEFT, 0].mean(1)
    x2 = points[:, _RIGHT, 0].mean(1)
    values = np.stack([(x1 + x2) / 2, points[:, _TOP, 1], x2 - x1], axis=1).astype(np.float64)
    known = np.flatnonzero(np.isfinite(values[:, 0]))
    frames = np.arange(len(values))
    return np.stack([np.interp(frames, known, column[known]) for column in values.T], axis=1)


def cuts(raw: Floats) -> list[int]:
    """Return the frames at which the square jumps."""
    steps = np.abs(np.diff(raw, axis=0)).max(1)
    return [int(k) + 1 for k in np.flatnonzero(steps > _JUMP * raw[1:, 2])]


def smoothed(raw: Floats) -> Floats:
    """Return the squares without the mesh's tremble, and without lag; cuts stay sharp."""
    done = np.empty_like(raw)
    for a, b in pairwise([0, *cuts(raw), len(raw)]):
        for column, window in enumerate((_PLACE_WINDOW, _PLACE_WINDOW, _SIDE_WINDOW)):
            done[a:b, column] = _parabolas(raw[a:b, column], window)
    return done


def _parabolas(values: Floats, window: int) -> Floats:
    """Return a Savitzky-Golay filter's output; at the ends, the parabolas of the outer windows."""
    window = min(window, len(values) - 1 + len(values) % 2)
    if window < 5:
        return values
    half = window // 2
    powers = np.vander(np.arange(-half, half + 1), 3)
    fit = np.linalg.pinv(powers)
    inner = np.convolve(values, fit[2][::-1], "valid")
    first, last = powers @ fit @ values[:window], powers @ fit @ values[-window:]
    return np.concatenate([first[:half], inner, last[half + 1 :]])


def rectangles(square: Floats) -> list[Rect]:
    """Return squares as rectangles in whole pixels; the side changes only with a movement of a pixel."""
    rects: list[Rect] = []
    side = 0
    for x, top, wide in square:
        if abs(wide - side) > 0.75:
            side = round(wide)
        x1, y1 = round(x - side / 2), round(top)
        rects.append((x1, y1, x1 + side, y1 + side))
    return rects


def tremble(square: Floats) -> float:
    """Return the noise of the corners' place from frame to frame, in pixels.

    It is the root mean square of the second differences, divided by that of white noise of deviation 1.
    """
    if len(square) < 3:
        return 0.0
    corners = np.stack(
        [square[:, 0] - square[:, 2] / 2, square[:, 1], square[:, 0] + square[:, 2] / 2], axis=1
    )
    second = np.diff(corners, 2, axis=0)
    # Cuts are no noise: the middle half of the values tells the deviation.
    low, high = np.percentile(second, [25, 75])
    return float((high - low) / 1.349 / np.sqrt(6))


def landmark_lines(points: npt.NDArray[np.float32], rect: Rect) -> str:
    """Return the text of a landmark file: 110 lines "x y"; the three of the square give `rect` exactly."""
    flat = points[:, :2].astype(np.float64)
    contour = flat[list(_CONTOUR)]
    along = np.concatenate([[0], np.hypot(*np.diff(contour, axis=0).T).cumsum()])
    places = np.linspace(0, along[-1], _CONTOUR_POINTS)
    even = np.stack([np.interp(places, along, c) for c in contour.T], axis=1)
    lines = [[float(x), float(y)] for x, y in (*even, *flat[list(_REST)])]
    x1, y1, x2, _ = rect
    lines[_X1_POINT][0], lines[_X2_POINT][0], lines[_Y1_POINT][1] = x1, x2, y1
    return "".join(f"{x:.1f} {y:.1f}\n" for x, y in lines)
