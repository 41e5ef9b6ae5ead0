"""Toy networks and small helpers of the preprocessing tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import soundfile

from lipsync_benchmarks import random_weights
from lipsync_preprocessing import networks
from lipsync_preprocessing.avatar import add_avatar
from support import talking
from support.toy_datasets import MODEL_REPOSITORY, make_raw

Array = npt.NDArray[Any]
Runner = Callable[..., Array]
TOY = 1 / 16


@pytest.fixture
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spend less on what a training does beside its steps: batch norms, and frames that are held out."""
    from lipsync_preprocessing.training import loop, material  # they import torch

    monkeypatch.setattr(loop, "_NORM_BATCHES", 4)
    monkeypatch.setattr(material, "_LEAST_HELD_OUT_S", 0.6)


@pytest.fixture(scope="session")
def generator_state() -> dict[str, Array]:
    return random_weights.generator_state(TOY, seed=1)


@pytest.fixture(scope="session")
def encoder_state() -> dict[str, Array]:
    return random_weights.audio_encoder_state(seed=1, width=1 / 4)


@pytest.fixture(scope="session")
def run() -> Runner:
    """Run a model (or a file) on the CPU with two threads; returns its first output."""

    def run_model(model: Any, **feeds: Array) -> Array:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        options.log_severity_level = 4
        source = model if isinstance(model, str) else model.SerializeToString()
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, feeds)[0])

    return run_model


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def generator_file(tmp_path_factory: pytest.TempPathFactory, generator_state: Any) -> Path:
    """A toy 99.onnx with a fixed batch, as the training code's exporter writes it."""
    path = tmp_path_factory.mktemp("generator") / "99.onnx"
    onnx.save(networks.build_generator(generator_state, batch=1), str(path))
    return path


@pytest.fixture(scope="session")
def other_generator_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("generator") / "99.onnx"
    state = random_weights.generator_state(TOY, seed=9)
    onnx.save(networks.build_generator(state), str(path))
    return path


@pytest.fixture(scope="session")
def encoder_file(tmp_path_factory: pytest.TempPathFactory, encoder_state: Any) -> Path:
    path = tmp_path_factory.mktemp("encoder") / "audio_encoder.onnx"
    onnx.save(networks.build_audio_encoder(encoder_state), str(path))
    return path


@pytest.fixture(scope="session")
def with_anna(
    tmp_path_factory: pytest.TempPathFactory, generator_file: Path, encoder_file: Path
) -> Path:
    """The model repository with the avatar `anna`, imported once: to be copied, not to be changed."""
    root = tmp_path_factory.mktemp("anna")
    repository = copy_repository(root / "models")
    add_avatar(repository, "anna", make_raw(root / "dataset"), generator_file, encoder_file)
    return repository


@pytest.fixture
def anna(with_anna: Path, tmp_path: Path) -> Path:
    """A model repository of the test's own with the avatar `anna`."""
    return shutil.copytree(with_anna, tmp_path / "models")


@pytest.fixture(scope="session")
def with_berta(tmp_path_factory: pytest.TempPathFactory, encoder_file: Path) -> Path:
    """The model repository with an avatar that can teach a student: its network is not the narrowest."""
    root = tmp_path_factory.mktemp("berta")
    state = random_weights.generator_state(2 * TOY, seed=4)
    # Bright patches with less noise: there is something that a few steps can learn.
    state["outc.conv.weight"] *= np.float32(0.3)
    state["outc.conv.bias"] += np.float32(1.0)
    onnx.save(networks.build_generator(state), str(root / "99.onnx"))
    repository = copy_repository(root / "models")
    add_avatar(repository, "berta", make_raw(root / "dataset"), root / "99.onnx", encoder_file)
    return repository


@pytest.fixture
def berta(with_berta: Path, tmp_path: Path) -> Path:
    """A model repository of the test's own with the avatar `berta`."""
    return shutil.copytree(with_berta, tmp_path / "models")


@pytest.fixture(scope="session")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with 10.4 s of what is speech to a network."""
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(path, talking.audio(260), 16_000)
    return path


@pytest.fixture(scope="session")
def taught(with_berta: Path, spoken: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The lessons of `berta`; needs torch."""
    from support.teaching import take_lessons

    return take_lessons(with_berta, spoken, tmp_path_factory.mktemp("lessons"))


@pytest.fixture
def raw_dataset(tmp_path: Path) -> Path:
    return make_raw(tmp_path / "dataset")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The project's model repository as it is after a clone, with nothing built."""
    return copy_repository(tmp_path / "models")


def copy_repository(target: Path) -> Path:
    """Copy what an avatar is made from, without what is built."""
    ignore = shutil.ignore_patterns("*.onnx", "*.npz", ".built-from", "__pycache__")
    for name in (
        "mel",
        "audio_encoder",
        "audio_window",
        "demo",
        "demo_generator",
        "demo_compositor",
    ):
        shutil.copytree(MODEL_REPOSITORY / name, target / name, ignore=ignore)
    return target


@pytest.fixture
def add(repository: Path, raw_dataset: Path, generator_file: Path, encoder_file: Path) -> Any:
    """A function that adds an avatar to `repository`."""

    def add_one(name: str = "anna", **changes: Any) -> Any:
        arguments: dict[str, Any] = {
            "dataset_dir": raw_dataset,
            "generator_path": generator_file,
            "encoder_path": encoder_file,
            **changes,
        }
        return add_avatar(repository, name, **arguments)

    return add_one
