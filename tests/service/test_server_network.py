"""The addresses of an embedded server: its ports, its hosts, and who may administer it."""

from __future__ import annotations

import socket
import subprocess
import sys
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
from support.servers import family
from support.triton_calls import PROTOCOLS, Triton

pytestmark = pytest.mark.server
COMMAND = [str(Path(sys.executable).with_name("lipsync-server"))]


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
    triton = family(server)[0]
    return [c for c in triton.net_connections("inet") if c.status == psutil.CONN_LISTEN]


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
