"""The case that every row of the benchmark renders, built once under build/bench.

255 frames of 1280x720: the case of the earlier systems around this network. They gave its length as 10.22 s;
by the contract's arithmetic that is 254 frames, and 255 frames take 10.24 s.
"""

from __future__ import annotations

import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import psutil
import soundfile
import soxr
from numpy.typing import NDArray

from lipsync_client.protocol import SAMPLE_RATE
from lipsync_preprocessing import networks
from lipsync_preprocessing.dataset import read_dataset
from lipsync_preprocessing.repository import RAW

from . import random_weights
from .repositories import build_repository, write_raw_repository

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "bench"
MODELS = ROOT / "model_repository"
WEIGHTS = ROOT / "examples/demo/weights"
SECONDS = 10.24
CROP = 328  # pixels: a face rectangle is resized to a square of this side
AVATAR = "demo"
Rectangle = tuple[int, int, int, int]  # x1, y1, x2, y2, pixels


@dataclass(frozen=True)
class RenderInputs:
    """The files that a renderer of one avatar needs.

    Attributes:
        frames: folder of {k}.jpg, the avatar's full frames.
        crops: folder of {k}.bmp, the crops at 328x328. They are lossless, so that the frames come out
            equal; the earlier systems had JPEGs here, which take longer to read.
        rects: the face rectangle of each frame, inside the frame.
        generator, encoder: the plain 99.onnx and the audio encoder.
    """

    frames: Path
    crops: Path
    rects: tuple[Rectangle, ...]
    generator: Path
    encoder: Path


@dataclass(frozen=True)
class Case:
    """The repositories and files that the rows are measured with.

    Attributes:
        repository: the service with a generator of random weights.
        raw_repository: the plain generator alone.
        demo: the service with the trained demo avatar, which has half the width.
        students: one whose demo avatar has taught smaller generators, with their profiles; or None.
    """

    repository: Path
    raw_repository: Path
    inputs: RenderInputs
    demo: Path
    students: Path | None = None


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(psutil.Process().cpu_affinity() or [0])


def build(width: float, students: Path | None = None) -> Case:
    """Return the demo avatar's frames with networks of a width; 1 is the true size.

    The weights are random from a seed: they draw noise that no face shows. Files that an earlier call
    built are used again. `students` is the case's.
    """
    repository, raw = WORK / f"models-{width}", WORK / f"raw-{width}"
    dataset, encoder = draw_dataset(), WORK / "audio_encoder.onnx"
    generator = generator_file(width)
    if not encoder.exists():
        state = random_weights.audio_encoder_state()
        onnx.save(networks.build_audio_encoder(state), str(encoder))
    build_repository(MODELS, AVATAR, dataset, generator, encoder, repository)
    if not (raw / (AVATAR + RAW) / "1/model.onnx").exists():
        write_raw_repository(repository, AVATAR, generator, raw, threads=cores())
    inputs = prepare(dataset, generator, encoder, WORK / "crops")
    return Case(repository, raw, inputs, build_demo(), students)


def build_demo() -> Path:
    """Return a repository with the trained demo avatar."""
    target = WORK / "models-demo"
    trained = WEIGHTS / "generator.onnx", WEIGHTS / "audio_encoder.onnx"
    build_repository(MODELS, AVATAR, draw_dataset(), *trained, target)
    return target


def generator_file(width: float) -> Path:
    """Return the plain generator of a width with seeded random weights; write it if it is missing."""
    path = WORK / f"99-{width}.onnx"
    if not path.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        state = random_weights.generator_state(width)
        onnx.save(networks.build_generator(state), str(partial))
        partial.rename(path)
    return path


def draw_dataset() -> Path:
    """Return the demo avatar's dataset; draw it if it is missing."""
    dataset = WORK / "dataset"
    if not (dataset / "landmarks/124.lms").exists():
        shutil.rmtree(dataset, ignore_errors=True)
        WORK.mkdir(parents=True, exist_ok=True)
        sys.path.append(str(ROOT / "examples/demo"))
        from draw import write_dataset

        print("drawing the avatar ...", file=sys.stderr)
        write_dataset(dataset)
    return dataset


def prepare(dataset: Path, generator: Path, encoder: Path, crops: Path) -> RenderInputs:
    """Write the 328 crops of a dataset, as the earlier systems' preprocessing did.

    Args:
        crops: folder for the crops; used as it is if it already holds one for each frame.
    """
    import cv2

    avatar = read_dataset(dataset)
    if len(list(crops.glob("*.bmp"))) != len(avatar):
        crops.mkdir(parents=True, exist_ok=True)
        for k, frame in enumerate(avatar.read()):
            x1, y1, x2, y2 = frame.rect
            crop = cv2.resize(
                frame.image[y1:y2, x1:x2], (CROP, CROP), interpolation=cv2.INTER_CUBIC
            )
            cv2.imwrite(str(crops / f"{k}.bmp"), crop)
    return RenderInputs(dataset / "full_body_img", crops, tuple(avatar.rects), generator, encoder)


def speech_file(seconds: float) -> Path:
    """Return the example speech, repeated or cut to a length."""
    samples, rate = soundfile.read(ROOT / "examples/speech.wav", dtype="float32")
    path = WORK / f"speech-{seconds:g}.wav"
    soundfile.write(path, np.resize(samples, round(seconds * rate)), rate)
    return path


def speech_samples(seconds: float) -> NDArray[np.float32]:
    """Return the example speech, repeated or cut to a length: float32 [samples], 16 kHz."""
    samples, rate = soundfile.read(ROOT / "examples/speech.wav", dtype="float32")
    resampled = soxr.resample(samples, rate, SAMPLE_RATE)
    return np.resize(np.asarray(resampled, np.float32), round(seconds * SAMPLE_RATE))


def machine() -> str:
    """Return the processor, the cores, the memory and the versions as one line of text."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":")[1].strip()
            break
    versions = f"ONNX Runtime {onnxruntime.__version__}, Python {platform.python_version()}"
    memory = psutil.virtual_memory().total / 2**30
    return f"{cores()} cores of {model}, {memory:.0f} GB, {versions}"
