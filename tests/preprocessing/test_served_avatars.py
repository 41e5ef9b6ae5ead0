"""Avatars in a real, running server: brought in, switched, taken out, while others render."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tritonclient.grpc as grpc
from click.testing import CliRunner

from lipsync_embedded import Server
from lipsync_preprocessing import networks
from lipsync_preprocessing.avatar import add_avatar, update_generator
from lipsync_preprocessing.cli import main
from support.servers import ServerPool
from support.toy_datasets import HEIGHT, WIDTH

SHAPE = (4, HEIGHT, WIDTH, 3)  # of the shortest clip, by the contract
KEY = "correct-horse"
WITH_KEY = ("--admin-key", KEY)


class Caller(threading.Thread):
    """A caller that renders a short clip again and again; it counts the different responses."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(daemon=True)
        self._client = grpc.InferenceServerClient(url.removeprefix("grpc://"))
        self._name = name
        self.stop = threading.Event()
        self.responses: Counter[bytes] = Counter()
        self.errors: list[str] = []

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                self.responses[self.render().tobytes()] += 1
                self.stop.wait(0.1)  # the other half of the cores is for what loads
            except Exception as error:
                self.errors.append(str(error))

    def render(self) -> Any:
        audio = (0.1 * np.random.default_rng(0).standard_normal(3000)).astype(np.float32)
        tensor = grpc.InferInput("AUDIO", [len(audio)], "FP32")
        tensor.set_data_from_numpy(audio)
        wanted = [grpc.InferRequestedOutput("FRAMES")]
        response = self._client.infer(self._name, [tensor], outputs=wanted, client_timeout=60)
        return response.as_numpy("FRAMES")

    def wait_for_responses(self, count: int) -> None:
        goal = self.responses.total() + count
        while self.responses.total() < goal and not self.errors:
            self.stop.wait(0.02)


@pytest.fixture(scope="module")
def anna(with_anna: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that the servers of this module load from; every test leaves it as it found it."""
    return shutil.copytree(with_anna, tmp_path_factory.mktemp("served") / "models")


@pytest.fixture
def add_arguments(
    anna: Path, raw_dataset: Path, generator_file: Path, encoder_file: Path
) -> list[str]:
    files = ["--dataset", raw_dataset, "--generator", generator_file]
    arguments = [*files, "--audio-encoder", encoder_file, "--repository", anna]
    return [str(a) for a in arguments]


@pytest.fixture
def served(servers: ServerPool, anna: Path) -> Server:
    """A server with model control, behind a key."""
    return servers.get(anna, models=["anna"], model_control=True, admin_key=KEY)


def cli(*arguments: str, expect: int = 0) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == expect, result.output
    return result.output


def test_avatars_come_go_and_switch_while_others_render(
    served: Server,
    add_arguments: list[str],
    anna: Path,
    other_generator_file: Path,
) -> None:
    callers = [Caller(served.grpc_url, "anna") for _ in range(2)]
    for caller in callers:
        caller.start()
    berta = Caller(served.grpc_url, "berta")
    try:
        callers[0].wait_for_responses(3)
        for url in (served.grpc_url, served.http_url):
            cli("add", "berta", *add_arguments, "--raw", "--load", "--url", url, *WITH_KEY)
            assert berta.render().shape == SHAPE
            cli("remove", "berta", "--repository", str(anna), "--unload", "--url", url, *WITH_KEY)
            with pytest.raises(Exception, match="berta"):
                berta.render()
        assert [len(c.responses) for c in callers] == [1, 1]
        at = ["--repository", str(anna), "--load", "--url", served.grpc_url, *WITH_KEY]
        cli("update", "anna", "--generator", str(other_generator_file), *at)
        callers[0].wait_for_responses(6)  # those in flight at the switch may be the old version's
        assert [len(c.responses) for c in callers] == [2, 2]
        new = callers[0].render().tobytes()
        cli("update", "anna", "--rollback", *at)
        callers[0].wait_for_responses(6)
        assert callers[0].render().tobytes() != new
    finally:
        for caller in callers:
            caller.stop.set()
        for caller in callers:
            caller.join(60)
    assert [c.errors for c in callers] == [[], []]
    assert [len(c.responses) for c in callers] == [2, 2]


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_admin_key(served: Server, add_arguments: list[str], anna: Path, protocol: str) -> None:
    url = served.grpc_url if protocol == "grpc" else served.http_url
    load = [*add_arguments, "--load", "--url", url]
    assert "expected an admin key" in cli("add", "berta", *load, expect=1)
    wrong = cli("add", "berta", *load, "--admin-key", "wrong", expect=1)
    assert "expected another admin key" in wrong
    assert not (anna / "berta").exists()
    cli("add", "berta", *load, "--admin-key", KEY)
    cli("update", "berta", *load[-5:], "--admin-key", f"admin-key={KEY}")
    assert Caller(served.grpc_url, "berta").render().shape == SHAPE
    at = ["--repository", str(anna), "--unload", "--url", url]
    cli("remove", "berta", *at, "--admin-key", KEY)


def test_a_model_that_does_not_load_says_why(
    served: Server, anna: Path, other_generator_file: Path
) -> None:
    update_generator(anna, "anna", other_generator_file)
    (anna / "anna_generator" / "2" / "model.onnx").write_bytes(b"text")
    at = ["--repository", str(anna), "--load", "--url", served.grpc_url, *WITH_KEY]
    assert "cannot load anna" in cli("update", "anna", *at, expect=1)
    # The version that works goes on serving.
    assert Caller(served.grpc_url, "anna").render().shape == SHAPE
    cli("update", "anna", "--rollback", "--repository", str(anna))


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_server_without_explicit_control(
    anna: Path, server: Server, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is on this machine: a proxy of the environment, where nothing listens, is not used."""
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    url = server.grpc_url if protocol == "grpc" else server.http_url
    at = ["--repository", str(anna), "--load", "--url", url]
    assert "--model-control-mode=explicit" in cli("update", "anna", *at, expect=1)


@pytest.mark.server
def test_check_notices_a_deaf_avatar(
    anna: Path, raw_dataset: Path, encoder_file: Path, generator_state: Any, tmp_path: Path
) -> None:
    """A generator that ignores its audio must not pass."""
    state = dict(generator_state)
    name = "fuse_conv.0.double_conv.0.conv.0.weight"
    state[name] = state[name].copy()
    state[name][:, state[name].shape[1] // 2 :] = 0
    onnx.save(networks.build_generator(state), str(tmp_path / "deaf.onnx"))
    repository = shutil.copytree(anna, tmp_path / "models")
    add_avatar(repository, "deaf", raw_dataset, tmp_path / "deaf.onnx", encoder_file)
    output = cli("check", "deaf", "--repository", str(repository), expect=1)
    assert "the generator ignores the audio" in output


@pytest.mark.server
def test_check_notices_other_audio_features(
    anna: Path, raw_dataset: Path, generator_file: Path, encoder_state: Any, tmp_path: Path
) -> None:
    """As when it was trained with hubert's: the shapes are equal, the scale is not."""
    state = dict(encoder_state)
    for entry in ("weight", "bias"):
        state[f"audio_encoder.12.conv_block.1.{entry}"] = (
            300 * state[f"audio_encoder.12.conv_block.1.{entry}"]
        )
    onnx.save(networks.build_audio_encoder(state), str(tmp_path / "other.onnx"))
    repository = shutil.copytree(anna, tmp_path / "models")
    add_avatar(repository, "other", raw_dataset, generator_file, tmp_path / "other.onnx")
    output = cli("check", "other", "--repository", str(repository), expect=1)
    assert "other: the mouth does not follow the audio" in output
    assert "as large as in training" in output
