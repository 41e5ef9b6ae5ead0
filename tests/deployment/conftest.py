from __future__ import annotations

import datetime
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from support.collector import Collector
from support.programs import program
from support.replicas import TOKENS, Gateway, Replica, two_replicas


@pytest.fixture(scope="session")
def gateway_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of an authority made for the tests: the gateway's, a caller's, an expired one."""
    folder = tmp_path_factory.mktemp("gateway")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    begun = past - datetime.timedelta(days=1)
    stranger = trustme.CA()
    for name, certificate in {
        "server": authority.issue_cert("localhost", "127.0.0.1"),
        "caller": authority.issue_cert("caller@example.org"),
        "caller_expired": authority.issue_cert(
            "caller@example.org", not_before=begun, not_after=past
        ),
        "caller_stranger": stranger.issue_cert("caller@example.org"),
    }.items():
        certificate.private_key_and_cert_chain_pem.write_to_path(folder / f"{name}.pem")
    return folder


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Where the servers of this folder send traces of those requests that bring one."""
    running = Collector()
    yield running
    running.close()


@pytest.fixture(scope="session")
def replicas(
    toy_repository: Path, gateway_folder: Path, collector: Collector
) -> Iterator[list[Replica]]:
    program("haproxy")  # skip before two servers are started for nothing
    repository = gateway_folder / "models"  # one avatar of the two: half the processes
    shutil.copytree(toy_repository, repository, ignore=shutil.ignore_patterns("wide*"))
    with two_replicas(repository, gateway_folder, collector.url) as both:
        yield both


@pytest.fixture(autouse=True)
def whole_replicas(request: pytest.FixtureRequest) -> Iterator[None]:
    """However a test ends, the next one finds both replicas."""
    yield
    if "replicas" in request.fixturenames:
        for replica in request.getfixturevalue("replicas"):
            replica.restore()


@pytest.fixture(scope="session")
def gateway(replicas: list[Replica], gateway_folder: Path) -> Iterator[Gateway]:
    running = Gateway(
        gateway_folder / "plain",
        replicas,
        TOKENS,
        rates={"busy": 5},
        concurrencies={"narrow": 1},
    )
    yield running
    running.close()
