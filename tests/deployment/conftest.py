from __future__ import annotations

import datetime
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from numpy.typing import NDArray

from support.callers import Caller
from support.collector import Collector
from support.containers import CONTAINER_HOST, Container, Image, compose_service
from support.gateway import TOKENS, Gateway
from support.programs import program
from support.replicas import ROOT, Replica, status, two_replicas, wait_until
from support.triton_calls import Triton, slice_request, speech


@pytest.fixture(scope="session")
def gateway_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make certificates of a test authority: the gateway's, a caller's, an expired and an untrusted one."""
    folder = tmp_path_factory.mktemp("gateway")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    begun = past - datetime.timedelta(days=1)
    untrusted = trustme.CA()
    for name, certificate in {
        "server": authority.issue_cert("localhost", "127.0.0.1"),
        "caller": authority.issue_cert("caller@example.org"),
        "caller_expired": authority.issue_cert(
            "caller@example.org", not_before=begun, not_after=past
        ),
        "caller_untrusted": untrusted.issue_cert("caller@example.org"),
    }.items():
        certificate.private_key_and_cert_chain_pem.write_to_path(folder / f"{name}.pem")
    return folder


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Run the trace collector that the servers of this folder send to."""
    running = Collector()
    yield running
    running.close()


@pytest.fixture(scope="session")
def replicas(
    toy_repository: Path, gateway_folder: Path, collector: Collector
) -> Iterator[list[Replica]]:
    """Run two replicas with the avatar `toy`."""
    program("haproxy")  # skips before two servers are started in vain
    repository = gateway_folder / "models"  # one avatar instead of two: half the processes
    shutil.copytree(toy_repository, repository, ignore=shutil.ignore_patterns("wide*"))
    with two_replicas(repository, gateway_folder, collector.url) as both:
        yield both


@pytest.fixture(autouse=True)
def restored_replicas(request: pytest.FixtureRequest) -> Iterator[None]:
    """Restore both replicas after each test that uses them."""
    yield
    if "replicas" in request.fixturenames:
        for replica in request.getfixturevalue("replicas"):
            replica.restore()


@pytest.fixture(scope="session")
def gateway(replicas: list[Replica], gateway_folder: Path) -> Iterator[Gateway]:
    """Run the gateway before the two replicas."""
    running = Gateway(
        gateway_folder / "plain",
        replicas,
        TOKENS,
        rates={"busy": 5},
        concurrencies={"narrow": 1},
    )
    yield running
    running.close()


@pytest.fixture
def anna(gateway: Gateway, gateway_folder: Path) -> Iterator[Caller]:
    """Connect the caller `anna`, who has the default limits, when both replicas are up."""
    wait_until("both replicas are up", lambda: gateway.up() == 2)
    caller = Caller(gateway.address, gateway_folder / "ca.pem", TOKENS["anna"])
    yield caller
    caller.close()


@pytest.fixture
def request_tensors() -> dict[str, NDArray[Any]]:
    """Return the inputs of a request for 16 frames."""
    return Triton.tensors(**slice_request(speech(2.0), 8, 16))


@pytest.fixture(scope="session")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run docker/make-secrets twice in a copy of docker/: the second run keeps what is there."""
    program("openssl")
    docker = tmp_path_factory.mktemp("secrets") / "docker"
    shutil.copytree(ROOT / "docker", docker, ignore=shutil.ignore_patterns("secrets"))
    first = subprocess.run([docker / "make-secrets"], check=True, capture_output=True, text=True)
    made = {p.name: p.read_bytes() for p in (docker / "secrets").iterdir()}
    again = subprocess.run([docker / "make-secrets"], check=True, capture_output=True, text=True)
    assert "token of caller 'first'" in first.stdout
    assert again.stdout == ""
    assert {p.name: p.read_bytes() for p in (docker / "secrets").iterdir()} == made
    return docker / "secrets"


@pytest.fixture(scope="session")
def container(
    secrets: Path,
    collector: Collector,
    toy_repository: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Container]:
    """Run the CPU image's container as Compose starts it, on CONTAINER_HOST, with tracing."""
    folder = tmp_path_factory.mktemp("container")
    image = Image("Dockerfile.cpu")
    service = compose_service(
        "triton",
        "compose.cpu.yaml",
        variables={
            "LIPSYNC_REPOSITORY": str(toy_repository),
            "LIPSYNC_OTLP_URL": collector.url,
            "LIPSYNC_TRACE_RATE": "0",
        },
    )
    # The image's own ports on an address of its own, so that nothing else on the machine has them.
    address = {
        "LIPSYNC_HOST": CONTAINER_HOST,
        "TRITON_HTTP": f"http://{CONTAINER_HOST}:8000",
        "MODELS_READY_BIND": f"{CONTAINER_HOST}:8003",
        "OTEL_BSP_SCHEDULE_DELAY": "200",  # ms from the end of a step to its export
    }
    running = Container(folder, image, service, secrets, address)
    process = running.start([*image.entrypoint, "--allow-metrics=false"])
    # A container sees no processes but its own; here other tests have dead ones.
    running.environment["TRITON_PID"] = str(process.pid)
    try:
        wait_until(
            "every model is ready",
            lambda: (
                status(f"http://{CONTAINER_HOST}:8003/ready") == 200 or process.poll() is not None
            ),
            200,
        )
        assert process.poll() is None, running.log.read_text()
        yield running
    finally:
        process.terminate()
        process.wait(60)
        os.killpg(process.pid, signal.SIGKILL)  # the probe, which ends with the container
