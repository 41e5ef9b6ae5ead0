"""The embedded server starts honestly and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from lipsync_embedded import EmbeddedServerError, Server, ServerStartError
from lipsync_embedded._host import free_ports
from support.triton_calls import PROTOCOLS, Triton, shared_memory

pytestmark = pytest.mark.server
COMMAND = [str(Path(sys.executable).with_name("lipsync-server"))]
FREE_PORTS = ["--http-port=0", "--grpc-port=0", "--metrics-port=0"]


@pytest.fixture
def one_model(toy_repository: Path, tmp_path: Path) -> Path:
    """A repository of `audio_window` alone, which starts quickly."""
    shutil.copytree(toy_repository / "audio_window", tmp_path / "models" / "audio_window")
    return tmp_path / "models"


def wait_until_gone(pids: list[int], timeout_s: float = 25) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not any(psutil.pid_exists(p) and alive(p) for p in pids):
            return
        time.sleep(0.05)
    pytest.fail(f"processes left: {[psutil.Process(p) for p in pids if psutil.pid_exists(p)]}")


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def family(pid: int) -> list[int]:
    parent = psutil.Process(pid)
    return [pid, *(child.pid for child in parent.children(recursive=True))]


def test_it_stops_without_a_trace_and_may_be_started_again(one_model: Path) -> None:
    server = Server(one_model)
    for _ in range(2):
        with server:
            assert server.pid is not None
            pids = family(server.pid)
            assert len(pids) >= 3  # guard, tritonserver, a stub
            segments = shared_memory(pids)
            assert segments
            assert server.poll() is None
            with pytest.raises(EmbeddedServerError, match="running already"):
                server.start()
        assert not [pid for pid in pids if alive(pid)]
        assert not [segment for segment in segments if segment.exists()]
        server.stop()  # once more does no harm


def start(
    repository: Path, scratch: Path, *arguments: str, wait: bool = True
) -> subprocess.Popen[str]:
    """`lipsync-server` in a session of its own, its temporary files in `scratch`; ready if waited for."""
    scratch.mkdir()
    process = subprocess.Popen(
        [*COMMAND, "--repository", str(repository), *(arguments or FREE_PORTS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(scratch)},
        start_new_session=True,
    )
    if wait:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready: grpc://127.0.0.1:")
    return process


def left_in(scratch: Path) -> list[Path]:
    return [path for path in scratch.iterdir() if path.name != ".ses"]  # that is tritonserver's own


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda n: n.name
)
def test_the_command_takes_everything_with_it(
    one_model: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process = start(one_model, tmp_path / "scratch")
    pids = family(process.pid)
    segments = shared_memory(pids)
    assert segments
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as the terminal does
    else:
        process.send_signal(number)
    process.communicate(timeout=90)
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    wait_until_gone(pids)
    assert not [segment for segment in segments if segment.exists()]
    if number != signal.SIGKILL:
        assert left_in(tmp_path / "scratch") == []


@pytest.mark.parametrize(
    ("number", "moment_s"),
    [(signal.SIGINT, 0.0), (signal.SIGINT, 0.3), (signal.SIGTERM, 0.3), (signal.SIGKILL, 0.0)],
)
def test_ended_while_it_starts(
    one_model: Path, tmp_path: Path, number: signal.Signals, moment_s: float
) -> None:
    process = start(one_model, tmp_path / "scratch", wait=False)
    deadline = time.monotonic() + 20
    while len(family(process.pid)) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)  # until guard and tritonserver are there
    time.sleep(moment_s)
    pids = family(process.pid)
    process.send_signal(number)
    _, errors = process.communicate(timeout=90)
    assert "Traceback" not in errors
    wait_until_gone(pids)
    if number != signal.SIGKILL:
        assert left_in(tmp_path / "scratch") == []


def test_the_death_of_a_program_that_holds_a_server(one_model: Path) -> None:
    """The library leaves nothing either, whatever its owner dies of."""
    program = (
        "import sys, time; from lipsync_embedded import Server\n"
        f"with Server({str(one_model)!r}): print('ready', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        pids = family(owner.pid)
        segments = shared_memory(pids)
        owner.kill()
    wait_until_gone(pids)
    assert not [segment for segment in segments if segment.exists()]


@pytest.mark.parametrize("which", ["http_port", "grpc_port"])
def test_a_port_that_is_taken(one_model: Path, which: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerStartError) as failure:
            Server(one_model, **{which: port}, startup_timeout_s=30).start()
    assert failure.value.exit_code == 1
    assert str(port) in failure.value.log_tail


def test_two_servers_at_once_and_ports_that_are_asked_for(one_model: Path) -> None:
    http_port, grpc_port, _ = free_ports("127.0.0.1", (0, 0, 0))
    index = np.full((1, 16), -1, np.int64)
    tensors: dict[str, NDArray[Any]] = {"embedding": np.ones((2, 512), np.float32), "index": index}
    with (
        Server(one_model) as other,
        Server(one_model, http_port=http_port, grpc_port=grpc_port) as one,
    ):
        assert one.http_url == f"http://127.0.0.1:{http_port}"
        assert one.grpc_url == f"grpc://127.0.0.1:{grpc_port}"
        assert one.grpc_url != other.grpc_url
        for server in (one, other):
            listening = {c.laddr.ip.removeprefix("::ffff:") for c in server_sockets(server)}
            assert listening == {"127.0.0.1"}  # and not other machines' addresses by default
            audio = Triton(server, "grpc").infer("audio_window", tensors, ["audio"])["audio"]
            assert (audio == 0).all()


def server_sockets(server: Server) -> list[Any]:
    assert server.pid is not None
    triton = psutil.Process(family(server.pid)[1])
    return [c for c in triton.net_connections("inet") if c.status == psutil.CONN_LISTEN]


def test_the_death_of_tritonserver_is_noticed(one_model: Path) -> None:
    with Server(one_model) as server:
        assert server.pid is not None
        pids = family(server.pid)
        os.kill(pids[1], signal.SIGKILL)
        assert server.wait() == 128 + signal.SIGKILL
        wait_until_gone(pids, 5)


def test_a_model_that_does_not_load_is_an_error_with_the_reason(one_model: Path) -> None:
    """Report the reason; test_onnx_model.py has the other refusals."""
    config = one_model / "audio_window/config.pbtxt"
    config.write_text(config.read_text().replace("TYPE_INT64", "TYPE_INT32"))
    with pytest.raises(ServerStartError) as failure:
        Server(one_model).start()
    assert failure.value.exit_code == 1
    assert "audio_window" in failure.value.log_tail
    assert "TYPE_INT32 in the config" in failure.value.log_tail
    assert "exit code 1" in str(failure.value)


def test_a_startup_that_takes_too_long_ends(one_model: Path) -> None:
    with pytest.raises(ServerStartError, match="not ready in") as failure:
        Server(one_model, startup_timeout_s=0.1).start()
    assert failure.value.exit_code is None


def test_a_repository_that_is_not_there() -> None:
    with pytest.raises(EmbeddedServerError, match="is not a directory"):
        Server("/nowhere").start()


def test_free_ports_are_three() -> None:
    """One in some thousand starts failed while two of them could be the same."""
    assert all(len(set(free_ports("127.0.0.1", (0, 0, 0)))) == 3 for _ in range(10_000))
    assert free_ports("127.0.0.1", (8000, 0, 8002))[::2] == (8000, 8002)


@pytest.mark.parametrize(("host", "url"), [("localhost", "127.0.0.1"), ("::1", "[::1]")])
def test_hosts_proxies_and_spaces(
    one_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, url: str
) -> None:
    """Start by name and over IPv6, from a path with a space, whatever proxy the environment names."""
    spaced = tmp_path / "my models"
    one_model.rename(spaced)
    (tmp_path / "my tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "my tmp"))
    proxies = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY")
    for name in proxies:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with Server(spaced, host=host) as server:
        for name in proxies:  # tritonclient would use them
            monkeypatch.delenv(name)
        assert server.http_url.startswith(f"http://{url}:")
        assert server.grpc_url.startswith(f"grpc://{url}:")
        for protocol in PROTOCOLS:
            assert Triton(server, protocol).client.is_model_ready("audio_window")


def test_a_port_of_another_server_is_not_taken_for_ours(one_model: Path, server: Server) -> None:
    port = int(server.http_url.rsplit(":", 1)[1])
    with pytest.raises(ServerStartError, match="it ended"), Server(one_model, http_port=port):
        pass


def test_administration_needs_the_key(server: Server) -> None:
    """No local user can send the server code to run, or change what it logs, traces or shares."""
    requests = {
        "/v2/repository/models/evil/load": b"{}",
        "/v2/repository/models/toy/unload": b"{}",
        "/v2/logging": b'{"log_verbose_level": 9}',
        "/v2/trace/setting": b'{"trace_level": ["TENSORS"]}',
        "/v2/systemsharedmemory/region/x/register": b'{"key": "/x", "offset": 0, "byte_size": 1}',
    }
    for path, body in requests.items():
        request = urllib.request.Request(server.http_url + path, body)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=60)
        refused.value.close()
        assert refused.value.code in (400, 403, 503), path
    client = Triton(server, "grpc").client
    calls: list[Callable[[], object]] = [
        lambda: client.load_model("evil"),
        lambda: client.update_log_settings({"log_verbose_level": 9}),
        lambda: client.update_trace_settings(settings={"trace_level": ["TENSORS"]}),
        lambda: client.register_system_shared_memory("x", "/x", 1),
    ]
    for call in calls:
        with pytest.raises(InferenceServerException):
            call()
    key = {"triton-grpc-protocol-admin-key": server.admin_key}
    assert client.get_log_settings(headers=key)


def test_some_models_are_loaded_without_model_control(toy_repository: Path) -> None:
    with Server(toy_repository, models=["audio_window"]) as server:
        client = Triton(server, "grpc").client
        index = client.get_model_repository_index(as_json=True)
        assert [model["name"] for model in index["models"]] == ["audio_window"]
        with pytest.raises(InferenceServerException, match="load / unload is not allowed"):
            client.load_model("mel")
    with pytest.raises(EmbeddedServerError, match=r"there is no model 'nobody'; there is: .*toy"):
        Server(toy_repository, models=["nobody"]).start()


def test_other_machines_are_let_in_only_on_demand(one_model: Path) -> None:
    refused = subprocess.run(
        [*COMMAND, "--repository", str(one_model), "--host", "0.0.0.0"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert refused.returncode == 2
    assert "--insecure" in refused.stderr
