"""Reading a recording: its frames at 25 per second, by their time and upright, and the audio beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from lipsync_preprocessing.contract import FRAME_RATE
from lipsync_preprocessing.dataset.images import check_pixels
from lipsync_preprocessing.dataset.types import Image
from lipsync_preprocessing.dataset.video import to_bgr
from lipsync_preprocessing.errors import DatasetError, RecordingError
from lipsync_preprocessing.files import check_file
from lipsync_preprocessing.recording.audio import Samples, read_audio
from lipsync_preprocessing.recording.opened import Opened

# A frame is looked up this long after the beginning of its 25th of a second: far from the moments at which
# frames of the usual rates (24 to 240) change, so that rounded time stamps give the same frames.
_INTO_FRAME_S = Fraction(12, 1000)
_LONGEST_HOLD_S = 0.5


@dataclass(frozen=True)
class Part:
    """A part of the recording, in seconds from its first frame; `end_s` None is its end."""

    start_s: float = 0.0
    end_s: float | None = None


@dataclass(frozen=True)
class Held:
    """A time in which the recording has no new frame, in seconds."""

    start_s: float
    end_s: float


class Recording:
    """A video file with a face and speech.

    Attributes:
        rate: mean frames per second, as the file states it; None if it does not.
        estimate: about how many frames of 25 per second it has; 0 if unknown.
        held: times without a new frame for more than half a second; filled while frames are read.
    """

    def __init__(self, path: Path, part: Part, height: int | None) -> None:
        self.path, self._part, self._height = path, part, height
        self.held: list[Held] = []
        check_file(path, RecordingError)
        with Opened(self.path) as container:
            if not container.streams.video:
                raise RecordingError(f"{path}: expected a video, it has no video stream")
            stream = container.streams.video[0]
            try:
                check_pixels(path, stream.width, stream.height)
            except DatasetError as error:
                raise RecordingError(str(error)) from error
            if not container.streams.audio:
                raise RecordingError(
                    f"{path}: expected a video with the person's speech, it has no audio"
                )
            self.rate = stream.average_rate
            seconds = (container.duration or 0) / av.time_base
            end = min(seconds, part.end_s) if part.end_s is not None else seconds
            self.estimate = max(0, int((end - part.start_s) * FRAME_RATE))

    def frames(self) -> Iterator[Image]:
        """Yield the frames shown at each 25th of a second: uint8 (H, W, 3) BGR, upright, all of one size."""
        size: tuple[int, int] | None = None
        number = 0
        # Only frames of the part are converted: a sequence of (frame, until when it is shown).
        for frame, start, end in self._shown():
            first = number
            image: Image | None = None
            while self._at(number) < end and not self._is_past(number):
                if self._at(number) >= start or number == 0:
                    image = self._upright(frame) if image is None else image
                    size = size or (image.shape[1], image.shape[0])
                    if (image.shape[1], image.shape[0]) != size:
                        raise RecordingError(
                            f"{self.path}: second {float(self._at(number)):.2f}: expected"
                            f" {size[0]}x{size[1]} pixels, the first frame's size, got"
                            f" {image.shape[1]}x{image.shape[0]}"
                        )
                    yield image
                number += 1
            if end - start > _LONGEST_HOLD_S and number > first:
                self.held.append(Held(float(start), float(end)))
            if self._is_past(number):
                return

    def audio(self) -> Samples:
        """Return the speech beside the frames: float32 [n], mono, 16 kHz, from the part's first frame on."""
        part = self._part
        seconds = None if part.end_s is None else part.end_s - part.start_s
        return read_audio(self.path, self._first_time() + Fraction(part.start_s), seconds)

    def _at(self, number: int) -> Fraction:
        """Return the time at which a frame of 25 per second is looked up, from the recording's start."""
        start = Fraction(self._part.start_s).limit_denominator(1000)
        return start + Fraction(number, FRAME_RATE) + _INTO_FRAME_S

    def _is_past(self, number: int) -> bool:
        end = self._part.end_s
        return end is not None and self._at(number) >= Fraction(end).limit_denominator(1000)

    def _shown(self) -> Iterator[tuple[av.VideoFrame, Fraction, Fraction]]:
        """Yield each frame with the times between which it is shown, from the first frame's own."""
        with Opened(self.path) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_type = "AUTO"
            usual = 1 / (stream.average_rate or Fraction(FRAME_RATE))
            zero: Fraction | None = None
            before: tuple[av.VideoFrame, Fraction] | None = None
            for frame in container.decode(stream):
                if frame.pts is None or frame.time_base is None:
                    time = before[1] + usual if before else Fraction(0)
                else:
                    time = frame.pts * frame.time_base
                    zero = time if zero is None else zero
                    time -= zero
                if before is not None:
                    yield (*before, time)
                before = frame, time
            if before is None:
                raise RecordingError(f"{self.path}: expected a video, it has no frame")
            yield (*before, before[1] + usual)

    def _first_time(self) -> Fraction:
        with Opened(self.path) as container:
            for frame in container.decode(container.streams.video[0]):
                return Fraction(frame.pts or 0) * (frame.time_base or 0)
        raise RecordingError(f"{self.path}: expected a video, it has no frame")

    def _upright(self, frame: av.VideoFrame) -> Image:
        image = to_bgr(frame)
        turns = round(frame.rotation / 90) % 4  # counterclockwise
        if turns:
            image = np.ascontiguousarray(np.rot90(image, turns))
        height, width = image.shape[:2]
        if self._height is not None and height > self._height:
            wide = 2 * round(width * self._height / height / 2)
            image = cv2.resize(image, (wide, self._height), interpolation=cv2.INTER_AREA)
        return np.asarray(image, np.uint8)
