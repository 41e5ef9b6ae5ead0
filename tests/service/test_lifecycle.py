"""The embedded server starts honestly and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from lipsync_embedded import Server, ServerError, ServerStartError
from triton import Triton

COMMAND = [str(Path(sys.executable).with_name("lipsync-server"))]
FREE_PORTS = ["--http-port=0", "--grpc-port=0", "--metrics-port=0"]


@pytest.fixture
def one_model(toy_repository: Path, tmp_path: Path) -> Path:
    """A repository of `audio_window` alone, which starts quickly."""
    shutil.copytree(toy_repository / "audio_window", tmp_path / "models" / "audio_window")
    return tmp_path / "models"


def shared_memory() -> set[str]:
    return {p.name for p in Path("/dev/shm").glob("lipsync_*")}


def wait_until_gone(pids: list[int], timeout_s: float = 25) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not any(psutil.pid_exists(p) and alive(p) for p in pids):
            return
        time.sleep(0.05)
    pytest.fail(f"processes left: {[psutil.Process(p) for p in pids if psutil.pid_exists(p)]}")


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def family(pid: int) -> list[int]:
    parent = psutil.Process(pid)
    return [pid, *(child.pid for child in parent.children(recursive=True))]


def test_stop_leaves_nothing(one_model: Path) -> None:
    before = shared_memory()
    with Server(one_model) as server:
        assert server.pid is not None
        pids = family(server.pid)
        assert len(pids) >= 3  # guard, tritonserver, a stub
        assert shared_memory() > before
    wait_until_gone(pids, 0.5)
    assert shared_memory() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_command_takes_everything_with_it(one_model: Path, number: signal.Signals) -> None:
    before = shared_memory()
    command = [*COMMAND, "--repository", str(one_model), *FREE_PORTS]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        assert process.stdout.readline().startswith("ready: grpc://127.0.0.1:")
        pids = family(process.pid)
        process.send_signal(number)
        code = process.wait(30)
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    wait_until_gone(pids)
    assert shared_memory() == before


def test_the_death_of_tritonserver_is_noticed(one_model: Path) -> None:
    with Server(one_model) as server:
        assert server.pid is not None
        pids = family(server.pid)
        os.kill(pids[1], signal.SIGKILL)
        assert server.wait() == 128 + signal.SIGKILL
        wait_until_gone(pids, 5)


def test_a_model_that_does_not_load_is_an_error_with_the_reason(one_model: Path) -> None:
    (one_model / "audio_window/1/model.onnx").write_bytes(b"not a model")
    with pytest.raises(ServerStartError) as failure:
        Server(one_model).start()
    assert failure.value.exit_code == 1
    assert failure.value.elapsed_s > 0
    assert "audio_window" in failure.value.log_tail
    assert "exit code 1" in str(failure.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("TYPE_INT64", "TYPE_INT32", "TYPE_INT32 in the config"),
        (
            "dims: [ -1, 16 ]",
            "dims: [ -1, 8 ]",
            "dims [-1, 16] in the graph, [-1, 8] in the config",
        ),
        ('name: "index"', 'name: "place"', "['index'] are not in the config"),
        ('string_value: "1"', 'string_value: "many"', "must be an integer, got 'many'"),
        ("max_batch_size: 0", "max_batch_size: 4", "in the config (with the batch)"),
    ],
)
def test_a_config_the_native_backend_refuses_is_refused(
    one_model: Path, old: str, new: str, message: str
) -> None:
    config = one_model / "audio_window/config.pbtxt"
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new, 1))
    with pytest.raises(ServerStartError) as failure:
        Server(one_model).start()
    assert message in failure.value.log_tail


def test_a_startup_that_takes_too_long_ends(one_model: Path) -> None:
    with pytest.raises(ServerStartError, match="not ready in 0 s") as failure:
        Server(one_model, startup_timeout_s=0.1).start()
    assert failure.value.exit_code is None


def test_a_repository_that_is_not_there() -> None:
    with pytest.raises(ServerError, match="is not a directory"):
        Server("/nowhere").start()


def test_two_servers_at_once(one_model: Path) -> None:
    index = np.full((1, 16), -1, np.int64)
    tensors = {"embedding": np.ones((2, 512), np.float32), "index": index}
    with Server(one_model) as one, Server(one_model) as other:
        assert one.grpc_url != other.grpc_url
        for server in (one, other):
            audio = Triton(server, "grpc").infer("audio_window", tensors, ["audio"])["audio"]
            assert (audio == 0).all()
