"""One caller, or whoever only connects, takes nothing from the others."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support import hostile_requests
from support.callers import Caller
from support.gateway import TOKENS, Gateway
from support.idle_connections import idle_connections
from support.load import Load, raw_load
from support.replicas import Replica, status, wait_until
from support.triton_calls import PROTOCOLS


@pytest.fixture
def honest(
    anna: Caller,  # noqa: ARG001  both replicas are up
    gateway: Gateway,
    gateway_folder: Path,
    request_tensors: dict[str, NDArray[Any]],
) -> Iterator[Load]:
    """Run a caller beside the test that sends each request once, and never fails."""
    with raw_load(gateway, gateway_folder / "ca.pem", request_tensors, threads=2) as load:
        load.wait_for(2)
        yield load
    assert not load.failures


def test_a_callers_errors_do_not_count_against_the_replicas(
    honest: Load, anna: Caller, gateway: Gateway, request_tensors: dict[str, NDArray[Any]]
) -> None:
    """Neither refusals of the gateway nor errors of Triton take a replica out or are sent again."""
    uncovered = request_tensors | {"FRAME_COUNT": np.array([1000], np.int64)}
    begun = len(gateway.log())
    requests = list((hostile_requests.classification() | hostile_requests.other()).values())
    for _ in range(3):
        for request in requests:
            anna.post(request.path, request.body, request.headers)
        for protocol in PROTOCOLS * 5:
            with pytest.raises(Exception, match="were requested"):
                anna.frames(protocol, "toy", uncovered, "JPEG")
            with pytest.raises(Exception, match="unknown model"):
                anna.frames(protocol, "nobody", request_tensors, "JPEG")
        assert gateway.up() == 2
    honest.wait_for(4)
    assert {line["retries"] for line in gateway.log()[begun:]} == {"0"}


def connections(gateway: Gateway) -> int:
    """Return the connections that the gateway's frontend holds."""
    return metric(gateway, 'haproxy_frontend_current_sessions{proxy="gateway"}')


def metric(gateway: Gateway, name: str) -> int:
    with urllib.request.urlopen(gateway.stats_url + "/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    (value,) = [line.rpartition(" ")[2] for line in lines if line.startswith(name + " ")]
    return int(float(value))


def test_idle_connections_of_one_source_leave_room(
    honest: Load, anna: Caller, gateway: Gateway
) -> None:
    """2,000 connections without a TLS hello, the limit of the whole gateway, from one address."""
    with idle_connections(gateway.port, ["127.0.0.77"], 2000):
        wait_until("the source is at its limit", lambda: connections(gateway) >= 250)
        honest.wait_for(4)
        assert anna.https("GET", "/v2/health/live")[0] == 200  # on a connection of its own
        assert connections(gateway) < 300
        assert status(gateway.stats_url + "/alive") == 200


def test_idle_connections_of_many_sources_end_soon(
    honest: Load, anna: Caller, gateway: Gateway
) -> None:
    """The limit of the frontend is reached: each place is free again after the handshake's timeout."""
    with idle_connections(gateway.port, [f"127.0.1.{n}" for n in range(1, 11)], 200):
        wait_until("the frontend is at its limit", lambda: connections(gateway) >= 1700)
        assert status(gateway.stats_url + "/alive") == 200
        honest.wait_for(2)
        assert anna.https("GET", "/v2/health/live")[0] == 200  # on a connection of its own
        assert status(gateway.stats_url + "/alive") == 200


def test_a_waiting_caller_goes_before_the_queue_of_another(
    replicas: list[Replica], gateway_folder: Path, request_tensors: dict[str, NDArray[Any]]
) -> None:
    """One replica serves one request at a time; twelve of one caller wait when another's first one comes."""
    settings = {"GATEWAY_REPLICA_REQUESTS": "1"}
    gateway = Gateway(gateway_folder / "fair", replicas[:1], TOKENS, settings=settings)
    names = ["anna"] * 12 + ["honest"]
    callers = [Caller(gateway.address, gateway_folder / "ca.pem", TOKENS[name]) for name in names]
    order: list[str] = []

    def request(name: str, caller: Caller) -> None:
        caller.frames("grpc", "toy", request_tensors, "JPEG")
        order.append(name)

    try:
        wait_until("the replica is up", lambda: gateway.up() == 1)
        for caller in callers:  # connect now, so that the requests below arrive at once
            assert caller.grpc.is_server_live(headers=caller.headers)
        with ThreadPoolExecutor(13) as pool:
            requests = [
                pool.submit(request, *pair) for pair in zip(names[:12], callers, strict=False)
            ]
            queue = 'haproxy_backend_current_queue{proxy="triton_grpc"}'
            wait_until("the requests wait", lambda: metric(gateway, queue) >= 8)
            done_before = len(order)
            requests.append(pool.submit(request, names[12], callers[12]))
            for future in requests:
                future.result(timeout=200)
        # Without the queue's order it would be the last of the thirteen.
        assert done_before <= 4
        assert order.index("honest") <= done_before + 4
        assert {line["status"] for line in gateway.log()} == {200}
    finally:
        for caller in callers:
            caller.close()
        gateway.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_beside_a_modest_caller_another_gets_half_of_the_places(
    replicas: list[Replica],
    gateway_folder: Path,
    request_tensors: dict[str, NDArray[Any]],
    protocol: str,
) -> None:
    """One that has a request in flight at a time finds a place free; alone, the other has all of them."""
    settings = {"GATEWAY_REPLICA_REQUESTS": "2"}
    gateway = Gateway(gateway_folder / "modest", replicas[:1], TOKENS, settings=settings)
    backend = f"triton_{protocol}"

    def request(caller: Caller) -> None:
        caller.frames(protocol, "toy", request_tensors, "JPEG")

    def served(name: str, begun: int) -> set[str]:
        lines = [line for line in gateway.log()[begun:] if str(line["path"]).endswith("nfer")]
        return {str(line["backend"]) for line in lines if line["caller"] == name}

    with ExitStack() as stack:
        stack.callback(gateway.close)

        def caller(name: str) -> Caller:
            made = Caller(gateway.address, gateway_folder / "ca.pem", TOKENS[name])
            stack.callback(made.close)
            return made

        wait_until("the replica is up", lambda: gateway.up() == 1)
        modest, many = caller("honest"), [caller("anna") for _ in range(6)]
        pool = stack.enter_context(ThreadPoolExecutor(6))
        list(pool.map(request, many * 2))
        assert served("anna", 0) == {backend}, "alone"
        begun = len(gateway.log())
        for _ in range(3):
            request(modest)
            list(pool.map(request, many))
        assert served("honest", begun) == {backend}
        assert served("anna", begun) == {backend, f"{backend}_more"}
        limits = 'haproxy_server_limit_sessions{proxy="%s",server="%s1"}'
        assert metric(gateway, limits % (backend, protocol)) == 2
        assert metric(gateway, limits % (f"{backend}_more", protocol)) == 1
