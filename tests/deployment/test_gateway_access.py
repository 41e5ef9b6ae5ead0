"""Access to the gateway: tokens, client certificates, and the limits of each caller."""

from __future__ import annotations

import concurrent.futures
import functools
import json
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
from numpy.typing import NDArray

from support.callers import Caller
from support.collector import Collector
from support.gateway import TOKENS, Gateway
from support.replicas import Replica, wait_until
from support.traces import is_traced


@pytest.mark.parametrize("token", [None, "", "token-of-nobody", "token-of-anna2"])
def test_without_a_callers_token_every_request_is_refused(
    gateway: Gateway, gateway_folder: Path, token: str | None
) -> None:
    caller = Caller(gateway.address, gateway_folder / "ca.pem", token)
    status, text = caller.https("GET", "/v2/models/toy/ready")
    assert status == 401
    assert "Bearer TOKEN" in json.loads(text)["error"]
    assert caller.grpc_status("ServerLive") == grpc.StatusCode.UNAUTHENTICATED
    assert caller.grpc_status("ModelInfer") == grpc.StatusCode.UNAUTHENTICATED
    caller.close()


def test_the_hash_in_the_map_is_not_a_token(gateway: Gateway, gateway_folder: Path) -> None:
    stored = (gateway_folder / "plain/callers.map").read_text().split()[0]
    caller = Caller(gateway.address, gateway_folder / "ca.pem", stored)
    assert caller.https("GET", "/v2/health/live")[0] == 401
    caller.close()


def test_with_mutual_tls_a_valid_certificate_is_required(
    replicas: list[Replica], gateway_folder: Path, collector: Collector
) -> None:
    ca = gateway_folder / "ca.pem"
    tracing = {"GATEWAY_TRACING": "1"}
    gateway = Gateway(gateway_folder / "mutual", replicas, TOKENS, client_ca=ca, settings=tracing)
    try:
        wait_until("both replicas are up", lambda: gateway.up() == 2)
        certificates = {"caller": True, "caller_expired": False, "caller_untrusted": False}
        for name, accepted in certificates.items():
            caller = Caller(gateway.address, ca, TOKENS["anna"], gateway_folder / f"{name}.pem")
            code = caller.grpc_status("ServerLive")
            assert code == (grpc.StatusCode.OK if accepted else grpc.StatusCode.UNAVAILABLE), name
            if accepted:
                wait_until("a trace has come", functools.partial(is_traced, caller, collector))
                assert caller.https("GET", "/v2/health/live")[0] == 200
            else:
                with pytest.raises(OSError):  # noqa: PT011  a TLS alert or a reset
                    caller.https("GET", "/v2/health/live")
            caller.close()
        without = Caller(gateway.address, ca, TOKENS["anna"])
        assert without.grpc_status("ServerLive") == grpc.StatusCode.UNAVAILABLE
        without.close()
    finally:
        gateway.close()


def test_each_caller_has_its_own_rate(gateway: Gateway, gateway_folder: Path, anna: Caller) -> None:
    busy = Caller(gateway.address, gateway_folder / "ca.pem", TOKENS["busy"])
    codes = [busy.https("GET", "/v2/health/live")[0] for _ in range(8)]
    assert codes == [200] * 5 + [429] * 3
    assert busy.grpc_status("ServerLive") == grpc.StatusCode.UNAVAILABLE  # gRPC's mapping of 429
    assert anna.https("GET", "/v2/health/live")[0] == 200
    busy.close()


def test_requests_at_once_are_limited_for_each_caller(
    gateway: Gateway, gateway_folder: Path, request_tensors: dict[str, NDArray[Any]]
) -> None:
    """Of six requests at once by a caller with a limit of one, some are refused and the others are whole."""
    begin = threading.Barrier(6)

    def call(_: int) -> str:
        narrow = Caller(gateway.address, gateway_folder / "ca.pem", TOKENS["narrow"])
        begin.wait()
        try:
            return str(narrow.frames("grpc", "toy", request_tensors, "JPEG").shape)
        except Exception as e:
            return str(e)
        finally:
            narrow.close()

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        results = list(pool.map(call, range(6)))
    served = [result for result in results if result == "(16, 1)"]
    refused = [result for result in results if "UNAVAILABLE" in result and "429" in result]
    assert served
    assert refused
    assert len(served) + len(refused) == 6, results
