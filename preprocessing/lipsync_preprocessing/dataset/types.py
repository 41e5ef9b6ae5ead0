"""The types of a dataset: frames, face rectangles, and how frames are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Rect = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels; x2 and y2 are outside."""

Progress = Callable[[int, int], None]
"""Called with the number of frames that are done, and of all frames."""


@dataclass(frozen=True)
class DatasetOptions:
    """Options for a dataset folder whose files leave a choice.

    Attributes:
        parsing: use the parsing masks, if there are any.
        frames: name of the video or folder that the frames come from; None chooses by itself.
        rectangles: name of the folder or file that the face rectangles come from; None chooses by itself.
        landmark_points: lines of a landmark file: 110 (the training code's detector), 98 or 68.
        pairing: how frames and landmarks (or rectangles, or masks) belong together where their numbers
            differ: equal "number", or the same place in the "order". None takes the order if there are
            as many of both, and otherwise refuses.
        frame_rate: the frames' own rate per second; None takes a video's own, and 25 for a folder.
            Frames at another rate than 25 are resampled.
    """

    parsing: bool = True
    frames: str | None = None
    rectangles: str | None = None
    landmark_points: int = 110
    pairing: Literal["number", "order"] | None = None
    frame_rate: Fraction | None = None


@dataclass(frozen=True)
class Frame:
    """One frame of an avatar.

    Attributes:
        image: uint8 (H, W, 3) BGR.
        rect: the face rectangle, inside the frame.
        mask: uint8 (h, w) of the rectangle's size, 255 where the original pixel stays; or None.
        data: the bytes that the frame pack stores: the JPEG as it was read, or a packet of a video.
    """

    image: Image
    rect: Rect
    mask: Image | None = None
    data: bytes = b""


@dataclass(frozen=True)
class VideoCoding:
    """The decoding of a video's packets; each group is decoded by itself, with a new decoder.

    Attributes:
        codec: FFmpeg's name of the decoder.
        extradata: the decoder's parameters.
        groups: number of the first frame of each group, and the number of all frames. The packets of a
            group are in decoding order; there are as many as frames.
    """

    codec: str
    extradata: bytes
    groups: tuple[int, ...]


class FrameSource(Protocol):
    """A folder or a video that frames are read from.

    Attributes:
        path: the folder or the file.
        first: number of the first frame.
        rate: frames per second, where the source says so.
        size: width and height of the first frame, pixels.
    """

    path: Path
    first: int
    rate: Fraction | None
    size: tuple[int, int]

    def __len__(self) -> int:
        """Return the number of frames."""

    def read(self, selection: Sequence[int]) -> Iterator[tuple[Image, bytes]]:
        """Yield the image and the stored bytes of each selected frame; the places are ascending."""

    def coding(self, selection: Sequence[int]) -> VideoCoding | None:
        """Return how the stored bytes of a selection are decoded; None if each is an image file."""


@dataclass(frozen=True)
class Dataset:
    """A dataset folder whose files were found in order; pixels are read during iteration.

    Attributes:
        frames, rectangles: where they come from.
        width, height: of every frame, pixels.
        rects: the face rectangle of each frame, clipped to the frame.
        read: yields every Frame in order; raises DatasetError at one that cannot be used.
        coding: returns how the frames' `data` is decoded; None if each is an image file.
    """

    directory: Path
    frames: str
    rectangles: str
    width: int
    height: int
    rects: list[Rect]
    has_masks: bool
    read: Callable[[], Iterator[Frame]]
    coding: Callable[[], VideoCoding | None]

    def __len__(self) -> int:
        return len(self.rects)
