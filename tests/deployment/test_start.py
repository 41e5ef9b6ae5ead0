"""The container of Triton: its start script, its health check, its administration and its log."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import pytest
import yaml
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from support.containers import CONTAINER_HOST, DOCKER, Container, Image, compose_service
from support.programs import program
from support.raw_requests import request_frames
from support.replicas import status, wait_until

URL = f"http://{CONTAINER_HOST}:8000"
READY_URL = f"http://{CONTAINER_HOST}:8003"


def post(path: str, key: str | None) -> tuple[int, bytes]:
    headers = {} if key is None else {"lipsync-admin-key": key}
    request = urllib.request.Request(f"{URL}{path}", b"{}", headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as e:
        return e.code, e.read()


def passed(container: Container, healthcheck: list[str]) -> str:
    """Return the output of a health check that passes, else an empty string."""
    checked = container.run(healthcheck)
    return checked.stdout if checked.returncode == 0 else ""


def test_the_health_check_passes_in_the_containers_own_environment(container: Container) -> None:
    """A health check sees the image's environment and nothing that the start script exports."""
    healthcheck = Image("Dockerfile.cpu").healthcheck
    wait_until("it passes", lambda: "models ready" in passed(container, healthcheck))
    container.environment["TRITON_ADMIN_KEY_FILE"] += ".lost"
    try:
        assert container.run(healthcheck).returncode == 1
    finally:
        container.environment["TRITON_ADMIN_KEY_FILE"] = container.path(
            Image("Dockerfile.cpu").environment["TRITON_ADMIN_KEY_FILE"]
        )


def test_the_gpu_images_health_check_passes_too(
    container: Container, secrets: Path, tmp_path: Path
) -> None:
    """Run it in the GPU image's environment, against the server of the CPU image."""
    image = Image("Dockerfile")
    address = {"TRITON_HTTP": URL, "TRITON_PID": container.environment["TRITON_PID"]}
    gpu = Container(tmp_path / "gpu", image, compose_service("triton"), secrets, address)
    gpu.environment.pop("PYTHONPATH")  # packages for the image's Python 3.10
    wait_until("it passes", lambda: passed(gpu, image.healthcheck))


@pytest.mark.parametrize("dockerfile", ["Dockerfile", "Dockerfile.cpu"])
def test_kubernetes_drains_with_the_images_drain_file(dockerfile: str) -> None:
    (deployment, *_) = yaml.safe_load_all((DOCKER / "k8s/base/triton.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    command = container["lifecycle"]["preStop"]["exec"]["command"][-1]
    assert f"touch {Image(dockerfile).environment['TRITON_DRAIN_FILE']} " in command


@pytest.mark.usefixtures("container")
def test_administration_needs_the_key_over_http(secrets: Path) -> None:
    key = (secrets / "triton_admin_key").read_text().strip()
    for path in (
        "/v2/repository/index",
        "/v2/repository/models/toy/unload",
        "/v2/systemsharedmemory/region/x/register",
        "/v2/trace/setting",
        "/v2/logging",
    ):
        assert post(path, None)[0] == 403, path
        assert post(path, "0" * 64)[0] == 403, path
    code, body = post("/v2/repository/index", key)
    assert code == 200
    assert "toy" in [entry["name"] for entry in json.loads(body)]
    # Even with the key no model can be loaded or unloaded.
    code, body = post("/v2/repository/models/toy/unload", key)
    assert code == 503
    assert b"not allowed" in body
    assert status(f"{URL}/v2/models/toy/ready") == 200


@pytest.mark.usefixtures("container")
def test_administration_needs_the_key_over_grpc(secrets: Path) -> None:
    key = (secrets / "triton_admin_key").read_text().strip()
    with grpc.insecure_channel(f"{CONTAINER_HOST}:8001") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for call, message in (
            (stub.RepositoryIndex, service_pb2.RepositoryIndexRequest()),
            (stub.ModelStatistics, service_pb2.ModelStatisticsRequest()),
            (stub.SystemSharedMemoryStatus, service_pb2.SystemSharedMemoryStatusRequest()),
            (stub.LogSettings, service_pb2.LogSettingsRequest()),
        ):
            with pytest.raises(grpc.RpcError, match="restricted"):
                call(message, timeout=10)
            call(message, timeout=10, metadata=[("triton-grpc-protocol-lipsync-admin-key", key)])


def test_the_log_has_times_and_refusals_without_metrics(container: Container) -> None:
    with pytest.raises(InferenceServerException, match="at most 32"):
        request_frames("grpc", {}, "refused-1", count=33, seconds=4.0)
    assert status(f"http://{CONTAINER_HOST}:8002/metrics") == 0
    wait_until("the refusal is printed", lambda: "refused-1" in container.log.read_text())
    lines = container.log.read_text().splitlines()
    (line,) = [line for line in lines if "refused-1" in line]
    head, _, message = line.partition("] ")
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ W \d+ lipsync_telemetry.py:\d+$", head)
    assert json.loads(json.loads(message))["reason"] == "too_many_frames"
    assert not any("counts no lipsync_" in line for line in lines)


def test_a_draining_server_is_alive_and_not_ready(container: Container) -> None:
    drain = Path(container.environment["TRITON_DRAIN_FILE"])
    drain.touch()
    assert status(f"{READY_URL}/ready") == 404  # HAProxy lets it finish its requests
    assert status(f"{READY_URL}/alive") == 200
    drain.unlink()
    assert status(f"{READY_URL}/ready") == 200


@pytest.mark.parametrize("key", ["", "short", "x" * 31, "a=b" * 20])
def test_a_weak_key_is_refused(tmp_path: Path, key: str) -> None:
    file = tmp_path / "key"
    file.write_text(key)
    environment = os.environ | {
        "LIPSYNC_REPOSITORY": str(tmp_path),
        "TRITON_DRAIN_FILE": str(tmp_path / "drain"),
        "TRITON_ADMIN_KEY_FILE": str(file),
    }
    done = subprocess.run([DOCKER / "triton/start"], env=environment, capture_output=True)
    assert done.returncode == 1
    assert b"32 or more" in done.stderr


def test_the_gateway_starts_in_its_containers_own_environment(
    secrets: Path, tmp_path: Path
) -> None:
    """Run its Compose command with the files that Compose mounts; only the addresses are the test's."""
    program("haproxy")
    service = compose_service("gateway")
    stats = f"{CONTAINER_HOST}:8404"
    address = {"GATEWAY_BIND": f"{CONTAINER_HOST}:8443", "GATEWAY_STATS_BIND": stats}
    gateway = Container(tmp_path / "gateway", None, service, secrets, address)
    process = gateway.start(service["command"])
    try:
        alive = f"http://{stats}/alive"
        wait_until("it listens", lambda: status(alive) == 200 or process.poll() is not None)
        assert process.poll() is None, gateway.log.read_text()
    finally:
        process.terminate()
        process.wait(30)
