"""A toy model repository, a real server on it, and the oracle for the same avatars."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from lipsync_embedded import Server
from lipsync_preprocessing import networks
from lipsync_preprocessing.avatar import add_avatar
from lipsync_preprocessing.compile import normalise_audio_encoder
from oracle import Oracle

ROOT = Path(__file__).resolve().parents[1]
TOY_WIDTH = 1 / 16  # of the true network's channels: the shapes are the contract's


@dataclass(frozen=True)
class ToyAvatar:
    """What an avatar was made of."""

    name: str
    dataset: Path
    generator: Path
    encoder: Path


@pytest.fixture(scope="session")
def toy_avatars(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ToyAvatar]:
    """`toy`: ten small frames. `wide`: 1280x720, its rectangles reach outside and change their size."""
    root = tmp_path_factory.mktemp("avatars")
    encoder = root / "audio_encoder.onnx"
    state = networks.random_audio_encoder_state(seed=1, width=1 / 4)
    onnx.save(networks.build_audio_encoder(state), str(encoder))
    avatars = {}
    for seed, (name, size, count) in enumerate(
        [("toy", (320, 240), 10), ("wide", (1280, 720), 4)], start=1
    ):
        generator = root / f"{name}.onnx"
        # One of them as an exporter with a fixed batch and other names would write it.
        names, batch = (("input", "audio"), None) if name == "toy" else (("visual", "sound"), 1)
        weights = networks.random_generator_state(TOY_WIDTH, seed=seed)
        model = networks.build_generator(weights, batch=batch, input_names=names)
        onnx.save(model, str(generator))
        dataset = root / name
        write_dataset(dataset, size, count, outside=name == "wide")
        avatars[name] = ToyAvatar(name, dataset, generator, encoder)
    return avatars


def write_dataset(directory: Path, size: tuple[int, int], count: int, outside: bool) -> None:
    """A raw dataset folder with smooth random pictures and a moving face rectangle."""
    (directory / "full_body_img").mkdir(parents=True)
    (directory / "landmarks").mkdir()
    width, height = size
    rng = np.random.default_rng(count)
    for k in range(count):
        small = rng.integers(0, 256, (9, 16, 3), dtype=np.uint8)
        picture = cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(directory / f"full_body_img/{k}.jpg"), picture)
        side = height // 2 + 7 * k
        x1, y1 = width // 3 + 5 * k, height // 4 + 3 * k
        if outside:  # over the right edge, then over the lower one
            x1, y1 = (width - side // 2, y1) if k % 2 else (x1, height - side // 2)
        points = np.zeros((110, 2))
        points[1, 0], points[31, 0], points[52, 1] = x1 + 0.7, x1 + side + 0.2, y1 + 0.9
        np.savetxt(directory / f"landmarks/{k}.lms", points, fmt="%.2f")


@pytest.fixture(scope="session")
def toy_repository(
    tmp_path_factory: pytest.TempPathFactory, toy_avatars: dict[str, ToyAvatar]
) -> Path:
    """The project's model repository with the toy avatars in the demo's place."""
    repository = tmp_path_factory.mktemp("repository") / "models"
    built = shutil.ignore_patterns("*.onnx", "*.npz")
    shutil.copytree(ROOT / "model_repository", repository, ignore=built)
    encoder = next(iter(toy_avatars.values())).encoder
    shared = normalise_audio_encoder(onnx.load(str(encoder)))
    onnx.save(shared, str(repository / "audio_encoder/1/model.onnx"))
    for avatar in toy_avatars.values():
        add_avatar(repository, avatar.name, avatar.dataset, avatar.generator, avatar.encoder)
    for part in ("demo", "demo_generator", "demo_compositor"):
        shutil.rmtree(repository / part)
    return repository


@pytest.fixture(scope="session")
def server(toy_repository: Path) -> Iterator[Server]:
    """A real tritonserver with the toy avatars, for the whole session."""
    with Server(toy_repository) as running:
        yield running


@pytest.fixture(scope="session")
def oracles(toy_avatars: dict[str, ToyAvatar]) -> dict[str, Oracle]:
    return {a.name: Oracle(a.dataset, a.generator, a.encoder) for a in toy_avatars.values()}


@pytest.fixture(autouse=True)
def show_server_log(request: pytest.FixtureRequest) -> Iterator[None]:
    """Put the end of the server's log under a failure."""
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed and "server" in request.fixturenames:
        print(request.getfixturevalue("server").log_tail())
