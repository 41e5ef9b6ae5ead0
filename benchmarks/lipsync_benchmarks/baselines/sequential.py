"""The earlier systems that make one frame after the other.

They are Jobs: `prepare` does what is done before speech comes, `run` renders the clip into a folder of JPEGs.
tests/benchmarks holds each of them to the frames of the service. Parsing masks are ignored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from ..case import RenderInputs, cores
from ..job import Outcome
from .arithmetic import (
    AudioInputs,
    Floats,
    Image,
    composite,
    face_and_audio,
    loop_index,
    open_session,
    visual_input,
)

JPEG_QUALITY = 90  # the service's default
Sink = Callable[[int, Image], object]  # frame number, uint8 (H, W, 3) BGR; called from any thread


@dataclass
class Sequential:
    """A renderer that reads everything from disk for each frame: read, infer, paste, save.

    Attributes:
        speech: an audio file.
        output: folder for the JPEGs.
        sink: receives each finished frame in place of the JPEG writer; None for that.
    """

    inputs: RenderInputs
    speech: Path
    output: Path
    sink: Sink | None = None

    def prepare(self) -> None:
        self.output.mkdir(parents=True, exist_ok=True)
        self._audio_inputs = AudioInputs(self.inputs.encoder)
        self.sessions = self.load_generator()
        self._ports = face_and_audio(self.sessions[0])
        for session in self.sessions:
            self.infer(session, self.visual(0)[None], np.zeros((1, 32, 16, 16), np.float32))

    def run(self) -> Outcome:
        begun = time.perf_counter()
        audio = self._audio_inputs(self.speech)
        finished_s = [time.perf_counter() - begun for _ in self.render(audio)]
        return Outcome(len(audio), time.perf_counter() - begun, finished_s[0])

    def load_generator(self) -> list[onnxruntime.InferenceSession]:
        return [open_session(self.inputs.generator, cores())]

    def render(self, audio: Floats) -> Iterator[None]:
        """Make every frame, and yield after each."""
        for i, block in enumerate(audio):
            faces = self.visual(self.avatar_frame(i))[None]
            self.finish(i, self.infer(self.sessions[0], faces, block[None])[0])
            yield

    def avatar_frame(self, i: int) -> int:
        """Return the avatar's frame for video frame i."""
        return loop_index(i, len(self.inputs.rects))

    def infer(self, session: onnxruntime.InferenceSession, faces: Floats, audio: Floats) -> Floats:
        """Run the generator: [n, 6, 320, 320] and [n, 32, 16, 16] to [n, 3, 320, 320]."""
        output: Floats = session.run(None, dict(zip(self._ports, (faces, audio), strict=True)))[0]
        return output

    def finish(self, i: int, output: Floats) -> None:
        """Composite frame i and save it."""
        k = self.avatar_frame(i)
        frame = self.frame(k)
        composite(frame, self.crop(k), self.inputs.rects[k], output)
        if self.sink is not None:
            self.sink(i, frame)
        else:
            quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
            cv2.imwrite(str(self.output / f"{i}.jpg"), frame, quality)

    def visual(self, k: int) -> Floats:
        """Return the generator's visual input for the avatar's frame k."""
        return visual_input(self.crop(k))

    def crop(self, k: int) -> Image:
        """Return the 328 crop of frame k; the caller may change it."""
        return np.asarray(cv2.imread(str(self.inputs.crops / f"{k}.bmp")), np.uint8)

    def frame(self, k: int) -> Image:
        """Return the full frame k; the caller may change it."""
        return np.asarray(cv2.imread(str(self.inputs.frames / f"{k}.jpg")), np.uint8)


@dataclass
class Cached(Sequential):
    """A sequential renderer with the avatar's frames in memory.

    Attributes:
        tensor_cache: keep the prepared visual inputs in memory, too.
    """

    tensor_cache: bool = True
    _frames: list[Image] = field(default_factory=list, init=False)
    _crops: list[Image] = field(default_factory=list, init=False)
    _visual: list[Floats] = field(default_factory=list, init=False)

    def prepare(self) -> None:
        count = range(len(self.inputs.rects))
        self._frames = [super(Cached, self).frame(k) for k in count]
        self._crops = [super(Cached, self).crop(k) for k in count]
        self._visual = [visual_input(crop) for crop in self._crops] if self.tensor_cache else []
        super().prepare()

    def visual(self, k: int) -> Floats:
        return self._visual[k] if self.tensor_cache else visual_input(self._crops[k])

    def crop(self, k: int) -> Image:
        return self._crops[k].copy()

    def frame(self, k: int) -> Image:
        return self._frames[k].copy()
