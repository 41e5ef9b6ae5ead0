"""Requests that the gateway refuses for their size or their form."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from support.callers import Caller
from support.triton_calls import Triton

MIB = 2**20


def test_large_bodies_are_refused(anna: Caller) -> None:
    tensors = Triton.tensors(np.zeros(MIB // 4 + 1000, np.float32), first=0, count=1)
    with pytest.raises(Exception, match="413"):
        anna.frames("grpc", "toy", tensors, "JPEG")
    announced = {"content-length": str(MIB + 1)}
    assert anna.https("POST", "/v2/models/toy/infer", None, announced)[0] == 413
    chunked = {"transfer-encoding": "chunked"}
    assert anna.https("POST", "/v2/models/toy/infer", b"5\r\nabcde\r\n0\r\n\r\n", chunked)[0] == 411


def test_a_message_is_refused_by_its_announced_length(anna: Caller) -> None:
    """A gRPC message announces 1 GiB in its first bytes and sends no more."""
    status, _ = anna.https(
        "POST",
        "/inference.GRPCInferenceService/ModelInfer",
        b"\0" + struct.pack(">I", 2**30),
        {"content-type": "application/grpc"},
    )
    assert status == 413


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v2/models/toy/infer", {"content-encoding": "gzip"}),
        (
            "/inference.GRPCInferenceService/ModelInfer",
            {"content-type": "application/grpc", "grpc-encoding": "gzip"},
        ),
    ],
)
def test_compressed_bodies_are_refused(anna: Caller, path: str, headers: dict[str, str]) -> None:
    assert anna.https("POST", path, b"\1\0\0\0\0", headers)[0] == 415


@pytest.mark.parametrize("after", [b"", bytes(200_000)], ids=["json", "and binary"])
@pytest.mark.parametrize(
    "claim",
    [
        b'"data": [1.0]',
        b'"data"\n\t : [1.0]',
        rb'"d\u0061ta": [1.0]',
        b'"parameters": {"binary_data_size": 4}, "data": [1.0]',
    ],
)
def test_numbers_in_json_are_refused(anna: Caller, claim: bytes, after: bytes) -> None:
    """With such a shape, numbers in JSON end Triton 2.51."""
    tensor = b'{"name": "AUDIO", "datatype": "FP32", "shape": [10000000000000], ' + claim + b"}"
    head = b'{"inputs": [' + tensor + b'], "outputs": [{"name": "JPEG"}]}'
    lengths = {"inference-header-content-length": str(len(head))} if after else {}
    status, body = anna.https("POST", "/v2/models/toy/infer", head + after, lengths)
    assert (status, body) == (415, b"tensors must be sent in binary, not as numbers in JSON\n")
    assert anna.https("GET", "/v2/health/live")[0] == 200
