"""The earlier systems around this model, each as its author would have written it well.

They are Jobs: `prepare` is what is done before speech comes, `run` renders the clip into a folder of JPEGs.
The arithmetic is the contract's, and tests/benchmarks holds every one to the frames of the service.
They know nothing of parsing masks, as those systems did not.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from .case import ROOT, Material, cores
from .job import Outcome

BORDER = 4  # pixels of the 328 crop around the generator's 320
ENCODER_BATCH = 32
JPEG_QUALITY = 90  # the service's default

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
Sink = Callable[[int, Image], object]  # frame number, uint8 (H, W, 3) BGR; called from any thread


def session(path: Path, threads: int) -> Any:
    """An ONNX Runtime session on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def face_and_audio(generator: Any) -> list[str]:
    """Names of the generator's two inputs: exporters differ in them, the shapes are the contract's."""
    shapes = {port.name: port.shape for port in generator.get_inputs()}
    return sorted(shapes, key=lambda name: 32 in shapes[name])


def ping_pong(i: int, count: int) -> int:
    """The avatar's frame for video frame i; starts at 1 (contract)."""
    last = count - 1
    if last == 0:
        return 0
    p = (i + 1) % (2 * last)
    return p if p <= last else 2 * last - p


def visual_input(crop: Image) -> Floats:
    """float32 [6, 320, 320] in 0..1 of a uint8 (328, 328, 3) BGR crop: the face, and the face masked."""
    both = np.empty((320, 320, 6), np.uint8)
    both[:, :, :3] = both[:, :, 3:] = crop[BORDER:-BORDER, BORDER:-BORDER]
    both[5:310, 5:315, 3:] = 0
    return np.ascontiguousarray(both.transpose(2, 0, 1)).astype(np.float32) / np.float32(255)


def composite(frame: Image, crop: Image, rect: tuple[int, int, int, int], output: Floats) -> None:
    """Paste the network's [3, 320, 320] into `frame`; `crop` (328, 328, 3) is written to as well."""
    x1, y1, x2, y2 = rect
    crop[BORDER:-BORDER, BORDER:-BORDER] = (output * np.float32(255)).transpose(1, 2, 0)
    frame[y1:y2, x1:x2] = cv2.resize(crop, (x2 - x1, y2 - y1), interpolation=cv2.INTER_CUBIC)


class Speech:
    """Speech to the generator's audio inputs, whole clip at once.

    The mel windows are the service's own pure functions: their arithmetic is librosa's in both.
    """

    def __init__(self, encoder: Path) -> None:
        sys.path.append(str(ROOT / "model_repository/mel/1"))
        import librosa
        import lipsync_mel
        import soundfile

        self._librosa, self._mel, self._soundfile = librosa, lipsync_mel, soundfile
        self._windows = lipsync_mel.MelWindows()
        self._encoder = session(encoder, cores())
        self._port = self._encoder.get_inputs()[0].name
        self._blocks(np.zeros(lipsync_mel.SAMPLE_RATE, np.float32))  # librosa compiles on first use

    def __call__(self, path: Path) -> Floats:
        """float32 [frames, 32, 16, 16] of a sound file."""
        samples, rate = self._soundfile.read(path, dtype="float32", always_2d=True)
        mono = self._librosa.to_mono(samples.T)
        return self._blocks(self._librosa.resample(mono, orig_sr=rate, target_sr=16000))

    def _blocks(self, wave: Floats) -> Floats:
        plan = self._mel.make_plan(wave.size, max_frames=wave.size)
        windows = self._windows(wave, 0, plan)
        parts = [
            self._encoder.run(None, {self._port: windows[n : n + ENCODER_BATCH]})[0]
            for n in range(0, len(windows), ENCODER_BATCH)
        ]
        silent = np.zeros((1, parts[0].shape[1]), np.float32)  # row -1: outside the clip
        embeddings = np.concatenate([*parts, silent])
        return embeddings[plan.index].reshape(-1, 32, 16, 16)


@dataclass
class Sequential:
    """Frame by frame, everything read from disk each time: read, infer, paste, save.

    Attributes:
        speech: a sound file.
        output: folder the JPEGs go to.
    """

    material: Material
    speech: Path
    output: Path

    def prepare(self) -> None:
        self.output.mkdir(parents=True, exist_ok=True)
        self.sink: Sink = self.save
        self._speech = Speech(self.material.encoder)
        self.sessions = self.load_generator()
        self._ports = face_and_audio(self.sessions[0])
        for one in self.sessions:
            self.infer(one, self.visual(0)[None], np.zeros((1, 32, 16, 16), np.float32))

    def run(self) -> Outcome:
        begun = time.perf_counter()
        audio = self._speech(self.speech)
        made = [time.perf_counter() - begun for _ in self.render(audio)]
        return Outcome(len(audio), time.perf_counter() - begun, made[0])

    def load_generator(self) -> list[Any]:
        return [session(self.material.generator, cores())]

    def render(self, audio: Floats) -> Iterator[None]:
        """Make every frame, and yield as each is done."""
        for i, block in enumerate(audio):
            k = ping_pong(i, len(self.material.rects))
            output = self.infer(self.sessions[0], self.visual(k)[None], block[None])
            self.finish(i, output[0])
            yield

    def infer(self, by: Any, faces: Floats, audio: Floats) -> Floats:
        feeds = dict(zip(self._ports, (faces, audio), strict=True))
        result: Floats = by.run(None, feeds)[0]
        return result

    def finish(self, i: int, output: Floats) -> None:
        """Composite frame i and hand it on."""
        k = ping_pong(i, len(self.material.rects))
        frame = self.frame(k)
        composite(frame, self.crop(k), self.material.rects[k], output)
        self.sink(i, frame)

    def save(self, i: int, frame: Image) -> None:
        cv2.imwrite(str(self.output / f"{i}.jpg"), frame, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])

    def visual(self, k: int) -> Floats:
        return visual_input(self.crop(k))

    def crop(self, k: int) -> Image:
        """The 328 crop of frame k, to be written to."""
        return np.asarray(cv2.imread(str(self.material.crops / f"{k}.bmp")))

    def frame(self, k: int) -> Image:
        """The full frame k, to be written to."""
        return np.asarray(cv2.imread(str(self.material.frames / f"{k}.jpg")))


@dataclass
class Cached(Sequential):
    """Frame by frame, with the backgrounds in memory, and the prepared input tensors too."""

    tensor_cache: bool = True
    _frames: list[Image] = field(default_factory=list, init=False)
    _crops: list[Image] = field(default_factory=list, init=False)
    _inputs: list[Floats] = field(default_factory=list, init=False)

    def prepare(self) -> None:
        count = range(len(self.material.rects))
        self._frames = [Sequential.frame(self, k) for k in count]
        self._crops = [Sequential.crop(self, k) for k in count]
        self._inputs = [visual_input(crop) for crop in self._crops] if self.tensor_cache else []
        super().prepare()

    def visual(self, k: int) -> Floats:
        return self._inputs[k] if self.tensor_cache else visual_input(self._crops[k])

    def crop(self, k: int) -> Image:
        return self._crops[k].copy()

    def frame(self, k: int) -> Image:
        return self._frames[k].copy()
