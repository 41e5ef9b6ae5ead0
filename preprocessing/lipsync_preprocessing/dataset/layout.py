"""Recognising how a dataset folder is laid out.

A dataset is a source of frames, a source of face rectangles, and perhaps parsing masks. The training
code's own folder holds `full_body_img/` and `landmarks/`; a packaged one `full_body_video.mp4` and
`crop_rectangles.json`, often in `cache/`. Published folders mix them: frames that were extracted from
the video lie beside it, numbered from 1, and landmarks beside the rectangles made from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from lipsync_preprocessing.contract import FRAME_RATE
from lipsync_preprocessing.dataset.folder import FrameFolder
from lipsync_preprocessing.dataset.masks import ParsingMasks
from lipsync_preprocessing.dataset.numbered import Numbers, pair
from lipsync_preprocessing.dataset.rectangles import clip_rect, json_rects, landmark_rects
from lipsync_preprocessing.dataset.types import (
    Dataset,
    DatasetOptions,
    Frame,
    FrameSource,
    Rect,
)
from lipsync_preprocessing.dataset.video import FrameVideo
from lipsync_preprocessing.errors import DatasetError

# In the order of preference: extracted frames were encoded once more than their video.
FRAMES = ("full_body_video.mp4", "full_body", "full_body_img")
RECTANGLES = ("landmarks", "crop_rectangles.json", "cache/crop_rectangles.json")
PARSING = "parsing"
_FASTEST_RATE = 240


@dataclass(frozen=True)
class _PairedRects:
    """Rectangles that were matched with frames.

    Attributes:
        source: name of the folder or file they come from.
        places: the frames that have a rectangle, as places in the source of frames.
        rects: their rectangles, clipped to the frame.
    """

    source: str
    places: range
    rects: list[Rect]


def read_dataset(directory: str | Path, options: DatasetOptions | None = None) -> Dataset:
    """Find the files of a dataset folder, and read its rectangles and its first frame.

    Args:
        directory: the folder.
        options: what to use where the folder leaves a choice.

    Raises:
        DatasetError: something is missing or wrong, or the folder can be read in two ways; then both are
            named, and the option that chooses.
    """
    directory, options = Path(directory), options or DatasetOptions()
    if not directory.is_dir():
        raise DatasetError(f"{directory}: expected a dataset folder, there is none")
    frames = _frames(directory, options)
    paired = _rectangles(directory, frames, options)
    masks = None
    if options.parsing and (directory / PARSING).is_dir():
        masks = ParsingMasks(directory / PARSING, frames.size, _numbers(frames), options.pairing)
    chosen = _at_frame_rate(frames, len(paired.places), options.frame_rate)
    rects = [paired.rects[k] for k in chosen]
    selection = [paired.places[k] for k in chosen]

    def read() -> Iterator[Frame]:
        stored = frames.read(selection)
        for place, rect, (image, data) in zip(selection, rects, stored, strict=True):
            mask = masks.kept_pixels(place, rect) if masks else None
            yield Frame(image, rect, mask, data)

    return Dataset(
        directory,
        frames.path.name,
        paired.source,
        *frames.size,
        rects,
        masks is not None,
        read,
        lambda: frames.coding(selection),
    )


def _frames(directory: Path, options: DatasetOptions) -> FrameSource:
    if options.frames is not None:
        return _open_frames(directory / options.frames)
    paths = [directory / name for name in FRAMES if (directory / name).exists()]
    if not paths:
        raise DatasetError(
            f"{directory}: expected frames in {FRAMES[0]}, {FRAMES[1]}/ or {FRAMES[2]}/, found none"
        )
    found = [_open_frames(path) for path in paths]
    other = next((f for f in found if len(f) != len(found[0])), None)
    if other is not None:
        raise DatasetError(
            f"{directory}: expected as many frames in {found[0].path.name} ({len(found[0])}) as in"
            f" {other.path.name} ({len(other)}); choose one with --frames {found[0].path.name} or"
            f" --frames {other.path.name}"
        )
    return found[0]


def _open_frames(path: Path) -> FrameSource:
    return FrameFolder(path) if path.is_dir() else FrameVideo(path)


def _rectangles(directory: Path, frames: FrameSource, options: DatasetOptions) -> _PairedRects:
    if options.rectangles is not None:
        return _read_rectangles(directory, options.rectangles, frames, options)
    names = [name for name in RECTANGLES if (directory / name).exists()]
    if not names:
        raise DatasetError(
            f"{directory}: expected face rectangles in {RECTANGLES[0]}/, {RECTANGLES[1]} or"
            f" {RECTANGLES[2]}, found none"
        )
    try:
        found = [_read_rectangles(directory, name, frames, options) for name in names]
    except DatasetError as error:
        if len(names) == 1:
            raise
        choices = " or ".join(f"--rectangles {name}" for name in names)
        raise DatasetError(f"{error}. To use only one of them: {choices}") from error
    for other in found[1:]:
        if (other.places, other.rects) != (found[0].places, found[0].rects):
            raise DatasetError(
                f"{directory}: {found[0].source} and {other.source} give different face rectangles"
                f" ({_first_difference(found[0], other)}); choose with --rectangles {found[0].source} or"
                f" --rectangles {other.source}"
            )
    return found[0]


def _read_rectangles(
    directory: Path, name: str, frames: FrameSource, options: DatasetOptions
) -> _PairedRects:
    path = directory / name
    if path.is_dir():
        numbers, rects = landmark_rects(path, options.landmark_points)
    else:
        numbers, rects = json_rects(path)
    mine, theirs = pair(_numbers(frames), numbers, options.pairing)
    where = f"{path}/{{}}.lms" if path.is_dir() else f"{path}: '{{}}'"
    clipped = [clip_rect(rects[n - numbers.first], *frames.size, where.format(n)) for n in theirs]
    places = range(mine.start - frames.first, mine.stop - frames.first)
    return _PairedRects(name, places, clipped)


def _first_difference(a: _PairedRects, b: _PairedRects) -> str:
    both = zip(a.places, a.rects, b.rects, strict=False)
    for place, one, other in both:
        if one != other:
            return f"{list(one)} against {list(other)} for frame {place}"
    return f"{len(a.rects)} against {len(b.rects)} of them"


def _numbers(frames: FrameSource) -> Numbers:
    return Numbers(frames.path, frames.first, len(frames))


def _at_frame_rate(frames: FrameSource, count: int, given: Fraction | None) -> Sequence[int]:
    """Return the frame that is shown at each 25th of a second."""
    rate = given if given is not None else frames.rate or Fraction(FRAME_RATE)
    if not 1 <= rate <= _FASTEST_RATE:
        raise DatasetError(
            f"{frames.path}: expected 1 to {_FASTEST_RATE} frames per second, got {float(rate):g}"
        )
    if given is None and abs(rate / FRAME_RATE - 1) > Fraction(1, 1000):
        raise DatasetError(
            f"{frames.path}: expected {FRAME_RATE} frames per second, got {float(rate):g}. Give"
            f" --frame-rate {float(rate):g} to resample it, or --frame-rate {FRAME_RATE} to take its frames"
            " one by one"
        )
    if given is None or rate == FRAME_RATE:
        return range(count)
    shown = int(count * FRAME_RATE / rate)
    return [int(k * rate / FRAME_RATE) for k in range(max(shown, 1))]
