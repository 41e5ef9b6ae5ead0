"""Avatars in a real, running server: brought in, switched, taken out, while others render."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc
from click.testing import CliRunner

from lipsync_embedded import Server
from lipsync_preprocessing.avatar import add_avatar
from lipsync_preprocessing.cli import main
from lipsync_preprocessing.update import update_generator
from support.toy_datasets import HEIGHT, WIDTH

# Half a second: T = 41 columns, F = int(25 / 80 * 25) + 2 = 9, two frames more (CONTRACT).
SHAPE = (11, HEIGHT, WIDTH, 3)
KEY = "correct-horse"
BEHIND_A_KEY = [
    f"--{option}=model-repository:admin-key={KEY}"
    for option in ("grpc-restricted-protocol", "http-restricted-api")
]


class Caller(threading.Thread):
    """Renders half a second again and again; counts the different answers, keeps the errors."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(daemon=True)
        self._client = grpc.InferenceServerClient(url.removeprefix("grpc://"))
        self._name = name
        self.stop = threading.Event()
        self.answers: Counter[bytes] = Counter()
        self.errors: list[str] = []

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                self.answers[self.render().tobytes()] += 1
            except Exception as error:
                self.errors.append(str(error))

    def render(self) -> Any:
        audio = (0.1 * np.random.default_rng(0).standard_normal(8000)).astype(np.float32)
        tensor = grpc.InferInput("AUDIO", [len(audio)], "FP32")
        tensor.set_data_from_numpy(audio)
        wanted = [grpc.InferRequestedOutput("FRAMES")]
        answer = self._client.infer(self._name, [tensor], outputs=wanted, client_timeout=60)
        return answer.as_numpy("FRAMES")

    def wait_for_answers(self, count: int) -> None:
        goal = self.answers.total() + count
        while self.answers.total() < goal and not self.errors:
            self.stop.wait(0.02)


@pytest.fixture
def anna(repository: Path, raw_dataset: Path, generator_file: Path, encoder_file: Path) -> Path:
    add_avatar(repository, "anna", raw_dataset, generator_file, encoder_file)
    return repository


@pytest.fixture
def add_arguments(
    anna: Path, raw_dataset: Path, generator_file: Path, encoder_file: Path
) -> list[str]:
    files = ["--dataset", raw_dataset, "--generator", generator_file]
    arguments = [*files, "--audio-encoder", encoder_file, "--repository", anna]
    return [str(a) for a in arguments]


@pytest.fixture
def server(anna: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(anna, models=["anna"], extra_args=getattr(request, "param", [])) as running:
        yield running


def cli(*arguments: str, expect: int = 0) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == expect, result.output
    return result.output


def test_avatars_come_go_and_switch_while_others_render(
    server: Server,
    add_arguments: list[str],
    anna: Path,
    other_generator_file: Path,
) -> None:
    callers = [Caller(server.grpc_url, "anna") for _ in range(3)]
    for caller in callers:
        caller.start()
    berta = Caller(server.grpc_url, "berta")
    try:
        callers[0].wait_for_answers(3)
        for url in (server.grpc_url, server.http_url):
            cli("add", "berta", *add_arguments, "--raw", "--load", "--url", url)
            assert berta.render().shape == SHAPE
            cli("remove", "berta", "--repository", str(anna), "--unload", "--url", url)
            with pytest.raises(Exception, match="berta"):
                berta.render()
        assert [len(c.answers) for c in callers] == [1, 1, 1]
        at = ["--repository", str(anna), "--load", "--url", server.grpc_url]
        cli("update", "anna", "--generator", str(other_generator_file), *at)
        callers[0].wait_for_answers(6)  # those in flight at the switch may be the old version's
        assert [len(c.answers) for c in callers] == [2, 2, 2]
        new = callers[0].render().tobytes()
        cli("update", "anna", "--rollback", *at)
        callers[0].wait_for_answers(6)
        assert callers[0].render().tobytes() != new
    finally:
        for caller in callers:
            caller.stop.set()
        for caller in callers:
            caller.join(60)
    assert [c.errors for c in callers] == [[], [], []]
    assert [len(c.answers) for c in callers] == [2, 2, 2]


@pytest.mark.parametrize("server", [BEHIND_A_KEY], indirect=True)
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_admin_key(server: Server, add_arguments: list[str], anna: Path, protocol: str) -> None:
    url = server.grpc_url if protocol == "grpc" else server.http_url
    load = [*add_arguments, "--load", "--url", url]
    assert "expected an admin key" in cli("add", "berta", *load, expect=1)
    wrong = cli("add", "berta", *load, "--admin-key", "wrong", expect=1)
    assert "expected another admin key" in wrong
    assert not (anna / "berta").exists()
    cli("add", "berta", *load, "--admin-key", KEY)
    cli("update", "berta", *load[-5:], "--admin-key", f"admin-key={KEY}")
    assert Caller(server.grpc_url, "berta").render().shape == SHAPE


def test_a_model_that_does_not_load_says_why(
    server: Server, anna: Path, other_generator_file: Path
) -> None:
    update_generator(anna, "anna", other_generator_file)
    (anna / "anna_generator" / "2" / "model.onnx").write_bytes(b"text")
    at = ["--repository", str(anna), "--load", "--url", server.grpc_url]
    assert "cannot load anna" in cli("update", "anna", *at, expect=1)
    # The version that works goes on serving.
    assert Caller(server.grpc_url, "anna").render().shape == SHAPE


def test_server_without_explicit_control(anna: Path, tmp_path: Path) -> None:
    only = tmp_path / "only"
    only.mkdir()
    (anna / "audio_window").rename(only / "audio_window")
    (only / "audio_window" / "1" / ".gitkeep").unlink(missing_ok=True)
    with Server(only) as running:
        at = ["--repository", str(anna), "--load", "--url", running.http_url]
        assert "--model-control-mode=explicit" in cli("update", "anna", *at, expect=1)


def test_check_renders_a_second(anna: Path) -> None:
    """A second of sound is 24 frames (CONTRACT: F + 2 with T = 81)."""
    output = cli("check", "anna", "--repository", str(anna))
    assert output.startswith("anna: ok, 24 frames for 1 s of sound in ")


def test_check_notices_a_deaf_avatar(
    anna: Path, raw_dataset: Path, encoder_file: Path, generator_state: Any, tmp_path: Path
) -> None:
    """A generator that ignores its audio must not pass."""
    import onnx

    from lipsync_preprocessing import networks

    state = dict(generator_state)
    name = "fuse_conv.0.double_conv.0.conv.0.weight"
    state[name] = state[name].copy()
    state[name][:, state[name].shape[1] // 2 :] = 0
    onnx.save(networks.build_generator(state), str(tmp_path / "deaf.onnx"))
    add_avatar(anna, "deaf", raw_dataset, tmp_path / "deaf.onnx", encoder_file)
    output = cli("check", "deaf", "--repository", str(anna), expect=1)
    assert "the audio is not heard" in output
