"""Requests that the gateway refuses for their size, their form, or what they ask for."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support import hostile_requests
from support.callers import Caller
from support.gateway import TOKENS, Gateway
from support.hostile_requests import GRPC, INFER, RawRequest
from support.random_requests import RandomRequests, is_harmless_grpc, is_harmless_http
from support.replicas import Replica
from support.triton_calls import PROTOCOLS, Triton

LIMIT = 245_760  # bytes of a request
HOSTILE = hostile_requests.classification() | hostile_requests.other()


def is_refused(caller: Caller, request: RawRequest) -> bool:
    """Send a request and return whether the gateway refused it, with a reason."""
    status, headers, body = caller.post(request.path, request.body, request.headers)
    reason = headers.get("grpc-message", body.decode())
    if not reason or "could not be checked" in reason:
        return False
    if status == 200:
        return headers["grpc-status"] == "3" and headers["content-type"] == "application/grpc"
    return status in (400, 413, 415)


def test_hostile_requests_are_refused(anna: Caller, replicas: list[Replica]) -> None:
    """None of them reaches a replica: the processes of both are the same afterwards."""
    before = {process.pid for r in replicas for process in r.processes()}
    assert [name for name in HOSTILE if not is_refused(anna, HOSTILE[name])] == []
    assert {process.pid for r in replicas for process in r.processes()} == before


def test_the_same_requests_without_the_hostile_part_are_served(anna: Caller) -> None:
    """The check accepts what the requests above are made from."""
    message = hostile_requests.grpc_message()
    assert anna.grpc_call("ModelInfer", message.SerializeToString())[1] == ""
    plain = hostile_requests.http_request(hostile_requests.http_head(), hostile_requests.AUDIO)
    status, _, body = anna.post(plain.path, plain.body, plain.headers)
    assert status == 200, body
    assert b"\xff\xd8" in body  # a JPEG


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_refusal_says_what_was_expected(anna: Caller, protocol: str) -> None:
    audio = {"AUDIO": np.zeros(4000, np.float32)}
    with pytest.raises(
        Exception, match="model audio_window is not open to callers; expected an avatar"
    ):
        anna.frames(protocol, "audio_window", audio, "JPEG")
    with pytest.raises(Exception, match="expected one output of FRAMES, H264, I420, JPEG"):
        anna.frames(protocol, "toy", audio, "patch")
    with pytest.raises(
        Exception, match="input SOUND is not accepted; accepted: AUDIO, AUDIO_START"
    ):
        anna.frames(protocol, "toy", {"SOUND": audio["AUDIO"]}, "JPEG")


def test_the_tables_are_those_of_an_avatar(anna: Caller) -> None:
    """The gateway's inputs and outputs are the avatar's own, in docker/gateway/check_request.lua."""
    config = anna.grpc.get_model_config("toy", headers=anna.headers).config
    with pytest.raises(Exception, match="accepted: ") as refusal:
        anna.frames("grpc", "toy", {"X": np.zeros(4, np.float32)}, "JPEG")
    inputs = str(refusal.value).partition("accepted: ")[2].split(", ")
    assert inputs == sorted(tensor.name for tensor in config.input)
    with pytest.raises(Exception, match="expected one output of ") as refusal:
        anna.frames("grpc", "toy", {"AUDIO": np.zeros(4, np.float32)}, "X")
    outputs = str(refusal.value).partition("output of ")[2].split(", ")
    assert outputs == sorted(tensor.name for tensor in config.output)


def test_large_bodies_are_refused(anna: Caller) -> None:
    tensors = Triton.tensors(np.zeros(LIMIT // 4 + 1, np.float32), first=0, count=1)
    with pytest.raises(Exception, match="413"):
        anna.frames("grpc", "toy", tensors, "JPEG")
    announced = {"content-length": str(LIMIT + 1)}
    assert anna.https("POST", "/v2/models/toy/infer", None, announced)[0] == 413
    chunked = {"transfer-encoding": "chunked"}
    assert anna.https("POST", "/v2/models/toy/infer", b"5\r\nabcde\r\n0\r\n\r\n", chunked)[0] == 411


def test_a_message_is_refused_by_its_announced_length(anna: Caller) -> None:
    """A gRPC message announces 1 GiB in its first bytes and sends no more."""
    assert anna.https("POST", INFER, b"\0" + struct.pack(">I", 2**30), GRPC)[0] == 413


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v2/models/toy/infer", {"content-encoding": "gzip"}),
        (INFER, GRPC | {"grpc-encoding": "gzip"}),
    ],
)
def test_compressed_bodies_are_refused(anna: Caller, path: str, headers: dict[str, str]) -> None:
    assert anna.https("POST", path, b"\1\0\0\0\0", headers)[0] == 415


def test_headers_are_removed_or_refused(
    anna: Caller, request_tensors: dict[str, NDArray[Any]]
) -> None:
    """Headers of 100 KB used to count as a failure of the replica; triton_grpc_error can end it."""
    for size in (9_000, 100_000):
        assert anna.https("GET", "/v2/health/live", headers={"x-large": "x" * size})[0] >= 400
    more = {"triton_grpc_error": "true", "accept-encoding": "gzip", "x-other": "y" * 2000}
    for protocol in PROTOCOLS:
        assert anna.frames(protocol, "toy", request_tensors, "JPEG", more).shape == (16, 1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_the_gateway_accepts_is_harmless(
    replicas: list[Replica], gateway_folder: Path, protocol: str
) -> None:
    """Of random requests it accepts only those that the official parsers find harmless, and some of these.

    The gateway has no replica here, so 503 means that it accepted a request.
    """
    settings = {"GATEWAY_RATE": "100000", "TRITON_HOST": "nobody.test"}
    gateway = Gateway(gateway_folder / "alone", replicas, TOKENS, settings=settings)
    random_requests = RandomRequests(seed=7)
    generate = random_requests.grpc if protocol == "grpc" else random_requests.http
    is_harmless = is_harmless_grpc if protocol == "grpc" else is_harmless_http
    accepted = refused = 0
    try:
        caller = Caller(gateway.address, gateway_folder / "ca.pem", TOKENS["anna"])
        for _ in range(600):
            request = generate()
            status, headers, body = caller.post(request.path, request.body, request.headers)
            if status == 503:
                accepted += 1
                assert is_harmless(request), request
            else:
                refused += 1
                assert "could not be checked" not in headers.get("grpc-message", body.decode())
        caller.close()
        assert accepted > 20
        assert refused > 200
    finally:
        gateway.close()
