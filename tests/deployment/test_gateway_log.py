"""The gateway's log, and the traces that pass through it."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile

from lipsync_client import LipSyncClient
from support.callers import Caller
from support.collector import Collector, Span
from support.gateway import Gateway
from support.replicas import Replica, wait_until
from support.traces import is_traced, spans_of, trace_header
from support.triton_calls import speech


def test_a_callers_trace_is_removed(anna: Caller, collector: Collector) -> None:
    """Otherwise a caller could have each of its requests traced."""
    assert not is_traced(anna, collector)


def test_a_request_id_is_logged_and_returned(anna: Caller, gateway: Gateway) -> None:
    request_id = 'clip-7" \\ {' + "x" * 80
    assert anna.https("GET", "/v2/models/toy/ready", headers={"x-request-id": request_id})[0] == 200

    def logged() -> list[dict[str, object]]:
        return [line for line in gateway.log() if line["request_id"] == request_id[:64]]

    wait_until("the request is in the log", logged)
    (line,) = logged()
    assert (line["caller"], line["path"]) == ("anna", "/v2/models/toy/ready")


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_client_hands_a_trace_on(
    replicas: list[Replica], collector: Collector, gateway_folder: Path, protocol: str
) -> None:
    server = replicas[0].server
    assert server is not None
    soundfile.write(gateway_folder / "traced.wav", speech(0.5), 16_000)
    url = server.grpc_url if protocol == "grpc" else server.http_url

    def traced() -> list[Span]:
        trace, header = trace_header()
        with LipSyncClient(url, headers=lambda: header) as client:
            assert list(client.render(gateway_folder / "traced.wav", "toy"))
        return spans_of(collector, trace)

    wait_until("the spans of a request have come", traced)
