"""Face rectangles: from landmarks, or from the crop_rectangles.json of a packaged dataset."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from lipsync_preprocessing.dataset.numbered import Numbers, consecutive, numbered_files
from lipsync_preprocessing.dataset.types import Rect
from lipsync_preprocessing.errors import DatasetError, one_line
from lipsync_preprocessing.files import read_file

_LARGEST_LANDMARKS_BYTES = 1 << 20
_LARGEST_JSON_BYTES = 64 << 20
_FARTHEST = 1 << 20  # pixels from the frame's corner


@dataclass(frozen=True)
class LandmarkScheme:
    """The points of a face detector that span the face rectangle.

    Attributes:
        name: the detector's, for messages.
        left, right: the x of the rectangle's sides is the mean of these points'.
        top: the y of its upper side is this point's.
    """

    name: str
    left: tuple[int, ...]
    right: tuple[int, ...]
    top: int


SCHEMES = {
    110: LandmarkScheme("the training code's detector", (1,), (31,), 52),
    # The same contour of 33 points and the same bridge of the nose, without the points that follow.
    98: LandmarkScheme("WFLW", (1,), (31,), 52),
    # A contour of 17 points: its 0.5 and 15.5 are 1 and 31 of 33.
    68: LandmarkScheme("iBUG", (0, 1), (15, 16), 28),
}


def landmark_rects(folder: Path, points: int) -> tuple[Numbers, list[Rect]]:
    """Return the rectangles of landmarks/{k}.lms, not clipped, and their numbers.

    Raises:
        DatasetError: a file is missing, or is not of `points` lines "x y".
    """
    numbers = numbered_files(folder, ".lms")
    paths = [folder / f"{k}.lms" for k in range(numbers.first, numbers.last + 1)]
    return numbers, [landmark_rect(path, points) for path in paths]


def landmark_rect(path: Path, points: int = 110) -> Rect:
    """Return the face square of a landmark file, not clipped.

    Coordinates are read as float32 and truncated, as the training code does.
    """
    scheme = SCHEMES.get(points)
    if scheme is None:
        known = ", ".join(map(str, SCHEMES))
        raise DatasetError(f"landmark points: expected one of {known}, got {points}")
    try:
        text = read_file(path, _LARGEST_LANDMARKS_BYTES, DatasetError).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: expected text, one 'x y' per line: {error}") from error
    lines = text.rstrip().splitlines()
    if len(lines) != points:
        raise DatasetError(_other_count(path, points, len(lines)))
    x1 = int(np.mean([_point(path, lines, n)[0] for n in scheme.left]))
    x2 = int(np.mean([_point(path, lines, n)[0] for n in scheme.right]))
    y1 = _point(path, lines, scheme.top)[1]
    return x1, y1, x2, y1 + (x2 - x1)


def _other_count(path: Path, points: int, came: int) -> str:
    message = f"{path}: expected {points} landmarks, those of {SCHEMES[points].name}, got {came}"
    if came in SCHEMES:
        return f"{message}. If they are those of {SCHEMES[came].name}: --landmark-points {came}"
    return f"{message}: another detector's points would put the rectangle beside the face"


def _point(path: Path, lines: list[str], n: int) -> tuple[int, int]:
    try:
        x, y = (int(np.float32(word)) for word in lines[n].split())
    except (ValueError, OverflowError) as error:
        raise DatasetError(
            f"{path}: line {n + 1}: expected 'x y', got {one_line(repr(lines[n]), 60)}"
        ) from error
    return x, y


def json_rects(path: Path) -> tuple[Numbers, list[Rect]]:
    """Return the rectangles of a crop_rectangles.json, not clipped, and their numbers.

    The file is an object {"0": {"rect": [x1, y1, x2, y2]}, …}; others of its keys are ignored.

    Raises:
        DatasetError: the file is no such object, or a rectangle is missing.
    """
    try:
        text = read_file(path, _LARGEST_JSON_BYTES, DatasetError).decode("utf-8-sig")
        entries: object = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise DatasetError(f"{path}: expected JSON, got one that is nested too deeply") from error
    except ValueError as error:
        raise DatasetError(f"{path}: expected JSON: {one_line(error)}") from error
    if not isinstance(entries, dict):
        raise DatasetError(
            f"{path}: expected an object of rectangles, got {type(entries).__name__}"
        )
    by_number = {int(k): v for k, v in entries.items() if re.fullmatch(r"0|[1-9]\d{0,8}", k)}
    if not by_number:
        raise DatasetError(f"{path}: expected rectangles '0', '1', …, got none")
    numbers = consecutive(path, by_number)
    return numbers, [_rect(path, k, by_number[k]) for k in range(numbers.first, numbers.last + 1)]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _rect(path: Path, k: int, entry: object) -> Rect:
    rect = entry.get("rect") if isinstance(entry, dict) else None
    if not isinstance(rect, list) or len(rect) != 4 or not all(map(_is_coordinate, rect)):
        raise DatasetError(
            f"{path}: '{k}': expected {{\"rect\": [x1,y1,x2,y2]}} in whole pixels, got {_shown(entry)}"
        )
    x1, y1, x2, y2 = (int(v) for v in rect)
    return x1, y1, x2, y2


def _shown(entry: object) -> str:
    try:
        return one_line(repr(entry), 60)
    except RecursionError:
        return f"a {type(entry).__name__} that is nested too deeply"


def _is_coordinate(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= _FARTHEST and value == int(value)  # false for NaN


def clip_rect(rect: Rect, width: int, height: int, where: str) -> Rect:
    """Return the part of a rectangle inside the frame; raise DatasetError if there is none."""
    x1, y1, x2, y2 = rect
    if x1 >= x2 or y1 >= y2:
        raise DatasetError(f"{where}: expected a rectangle x1<x2, y1<y2, got {list(rect)}")
    x1, x2 = max(0, x1), min(width, x2)
    y1, y2 = max(0, y1), min(height, y2)
    if x1 >= x2 or y1 >= y2:
        raise DatasetError(
            f"{where}: expected a rectangle in the {width}x{height} frame, got {list(rect)}"
        )
    return x1, y1, x2, y2
