"""The case that every row of the benchmark renders, built once under build/bench.

255 frames of 1280x720: the case of the earlier systems around this model. They called it 10.22 s; by the
contract's arithmetic that is 254 frames, and the 255 take 10.24 s.
"""

from __future__ import annotations

import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import psutil
import soundfile
from google.protobuf import text_format

from lipsync_preprocessing import configs, networks
from lipsync_preprocessing.avatar import fill_template
from lipsync_preprocessing.compile import raw_generator
from lipsync_preprocessing.dataset import read_dataset
from lipsync_preprocessing.repository import (
    GENERATOR,
    RAW,
    Repository,
    set_parameter,
    write_config,
)

from . import random_weights

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "bench"
SECONDS = 10.24
CROP = 328  # pixels: the square that a face rectangle is resized to
AVATAR = "demo"
# Configs of the generator beside its usual one: OpenVINO's precision, and MiB for every frame's visual half.
PROFILES = {"openvino-f32": ("f32", 1024), "openvino-bf16": ("bf16", 512)}


@dataclass(frozen=True)
class Material:
    """What a renderer of one avatar is given.

    Attributes:
        frames: folder of {k}.jpg, the avatar's full frames.
        crops: folder of {k}.bmp, the face rectangles at 328x328. Lossless, so that the frames come out
            the same; the earlier systems had JPEGs here, which take longer to read.
        rects: x1, y1, x2, y2 of each frame, inside it.
        generator, encoder: the plain 99.onnx and the audio encoder.
    """

    frames: Path
    crops: Path
    rects: tuple[tuple[int, int, int, int], ...]
    generator: Path
    encoder: Path


@dataclass(frozen=True)
class Case:
    """What the rows are made from.

    Attributes:
        repository: for the service.
        raw_repository: for the bare network.
        demo: for the demo avatar as it is, trained and of half the width; None until `make demo` built it.
    """

    repository: Path
    raw_repository: Path
    material: Material
    demo: Path | None = None


def cores() -> int:
    """Cores this process may use."""
    return len(psutil.Process().cpu_affinity() or [0])


def build(width: float) -> Case:
    """The demo avatar's frames with networks of a width; 1 is the true size. Built once.

    The weights are random from a seed: they draw noise that no face shows.
    """
    repository, raw = WORK / f"models-{width}", WORK / f"raw-{width}"
    generator, encoder = WORK / f"99-{width}.onnx", WORK / "audio_encoder.onnx"
    dataset = WORK / "dataset"
    if not (dataset / "landmarks/124.lms").exists():
        shutil.rmtree(dataset, ignore_errors=True)
        WORK.mkdir(parents=True, exist_ok=True)
        sys.path.append(str(ROOT / "examples/demo"))
        from draw import write_dataset

        print("drawing the avatar ...", file=sys.stderr)
        write_dataset(dataset)
    if not (repository / "demo_compositor/1/frames.npz").exists():
        shutil.rmtree(repository, ignore_errors=True)
        weights = random_weights.generator_state(width)
        onnx.save(networks.build_generator(weights), str(generator))
        state = random_weights.audio_encoder_state()
        onnx.save(networks.build_audio_encoder(state), str(encoder))
        built = shutil.ignore_patterns("*.onnx", "*.npz")
        shutil.copytree(ROOT / "model_repository", repository, ignore=built)
        fill_template(repository, AVATAR, dataset, generator, encoder)
    if not (raw / (AVATAR + RAW) / "1/model.onnx").exists():
        write_raw_repository(repository, AVATAR, generator, raw)
    write_profiles(repository)
    material = prepare(dataset, generator, encoder, WORK / "crops")
    return Case(repository, raw, material, copy_of_demo(WORK / "models-demo"))


def write_profiles(repository: Path) -> None:
    """The generator's PROFILES, as Triton's --model-config-name reads them."""
    model = f"{AVATAR}{GENERATOR}"
    for name, (precision, cache_mb) in PROFILES.items():
        config = Repository(repository).config(model)
        accelerator = config.optimization.execution_accelerators.cpu_execution_accelerator.add()
        accelerator.name = "openvino"
        accelerator.parameters.update(precision=precision, visual_cache_mb=str(cache_mb))
        path = repository / model / "configs" / f"{name}.pbtxt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text_format.MessageToString(config))


def copy_of_demo(target: Path) -> Path | None:
    """The demo avatar's repository with PROFILES, made anew; None if `make demo` never built it."""
    source = ROOT / "model_repository"
    shutil.rmtree(target, ignore_errors=True)
    if not (source / f"{AVATAR}{GENERATOR}/1/model.onnx").exists():
        return None
    shutil.copytree(source, target)
    write_profiles(target)
    return target


def prepare(dataset: Path, generator: Path, encoder: Path, crops: Path) -> Material:
    """What the earlier systems' preprocessing leaves behind: the 328 crops and the rectangles."""
    avatar = read_dataset(dataset)
    if len(list(crops.glob("*.bmp"))) != len(avatar):
        crops.mkdir(parents=True, exist_ok=True)
        for k, frame in enumerate(avatar.read()):
            x1, y1, x2, y2 = frame.rect
            crop = cv2.resize(
                frame.image[y1:y2, x1:x2], (CROP, CROP), interpolation=cv2.INTER_CUBIC
            )
            cv2.imwrite(str(crops / f"{k}.bmp"), crop)
    return Material(dataset / "full_body_img", crops, tuple(avatar.rects), generator, encoder)


def write_raw_repository(repository: Path, avatar: str, generator: Path, target: Path) -> None:
    """The plain 99.onnx alone, as `lipsync-avatar add --raw` writes it, with all cores for one frame.

    The service runs a batch's frames side by side, one thread each. A caller that sends one frame at a
    time, as the earlier systems did, would leave all cores but one idle: hence the thread count.
    """
    store = Repository(repository)
    name = avatar + RAW
    shutil.rmtree(target, ignore_errors=True)
    directory = target / name
    (directory / "1").mkdir(parents=True)
    configs.write_raw(store, avatar, avatar, directory)
    config = Repository(target).config(name)
    set_parameter(config, "intra_op_thread_count", cores())
    write_config(directory, config)
    onnx.save(raw_generator(onnx.load(str(generator))), str(directory / "1/model.onnx"))


def speech_file(seconds: float) -> Path:
    """The example speech, repeated to a length."""
    samples, rate = soundfile.read(ROOT / "examples/speech.wav", dtype="float32")
    path = WORK / f"speech-{seconds:g}.wav"
    soundfile.write(path, np.resize(samples, round(seconds * rate)), rate)
    return path


def machine() -> str:
    """Processor, cores and versions, in words."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":")[1].strip()
            break
    versions = f"ONNX Runtime {onnxruntime.__version__}, Python {platform.python_version()}"
    memory = psutil.virtual_memory().total / 2**30
    return f"{cores()} cores of {model}, {memory:.0f} GB, {versions}"
