"""The real HAProxy with docker/gateway/haproxy.cfg, in front of two real servers."""

from __future__ import annotations

import concurrent.futures
import json
import re
import secrets
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import soundfile

from lipsync_client import LipSyncClient, NotAllowed, RenderOptions
from lipsync_embedded._wheel import find_wheel
from support.callers import Caller
from support.collector import Collector
from support.replicas import ROOT, TOKENS, Gateway, Replica, wait_until
from support.triton_calls import PROTOCOLS, Triton, slice_request, speech

MIB = 2**20
OPEN_GRPC = [
    "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelConfig",
    "ModelInfer", "RepositoryIndex",
]  # fmt: skip
CLOSED_GRPC = [
    "RepositoryModelLoad", "RepositoryModelUnload", "ModelStatistics", "TraceSetting", "LogSettings",
    "SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister",
    "CudaSharedMemoryStatus", "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister", "ModelStreamInfer",
]  # fmt: skip
# Every pattern of a path in tritonserver's HTTP front ends, and what it stands for.
MODEL_PATHS = [
    f"/v2/models/toy{version}{end}"
    for version in ("", "/versions/1")
    for end in (
        "", "/infer", "/generate", "/generate_stream", "/ready", "/config", "/stats", "/trace/setting",
    )
]  # fmt: skip
TRITON_HTTP = {
    "/v2": ["/v2"],
    "/v2(?:/health/(live|ready))?": ["/v2/health/live", "/v2/health/ready"],
    "/v2/models/([^/]+)(?:/versions/([0-9]+))?(?:/(infer|generate|generate_stream|ready|config|stats"
    "|trace/setting))?": MODEL_PATHS,
    "/v2/models/stats": ["/v2/models/stats"],
    "/v2/repository(?:/([^/]+))?/(index|models/([^/]+)/(load|unload))": [
        f"/v2/repository{name}/{end}"
        for name in ("", "/models")
        for end in ("index", "models/toy/load", "models/toy/unload")
    ],
    **{
        f"/v2/{kind}sharedmemory(?:/region/([^/]+))?/(status|register|unregister)": [
            f"/v2/{kind}sharedmemory{region}/{end}"
            for region in ("", "/region/x")
            for end in ("status", "register", "unregister")
        ]
        for kind in ("system", "cuda")
    },
    "/v2/trace/setting": ["/v2/trace/setting"],
    "/v2/logging": ["/v2/logging"],
    "/metrics/?": ["/metrics"],
}
OPEN_HTTP = {
    ("GET", "/v2"), ("GET", "/v2/health/live"), ("GET", "/v2/health/ready"),
    ("POST", "/v2/repository/index"),
    *(
        (method, f"/v2/models/toy{version}{end}")
        for version in ("", "/versions/1")
        for method, end in (("GET", ""), ("GET", "/config"), ("GET", "/ready"), ("POST", "/infer"))
    ),
}  # fmt: skip
CLOSED_HTTP = [
    ("POST", "/v2/repository/models/toy/load"),
    ("POST", "/v2/repository/models/toy/unload"),
    ("GET", "/v2/models/stats"),
    ("GET", "/v2/models/toy/stats"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("POST", "/v2/systemsharedmemory/region/x/register"),
    ("GET", "/v2/cudasharedmemory/status"),
    ("GET", "/v2/trace/setting"),
    ("GET", "/v2/models/toy/trace/setting"),
    ("POST", "/v2/logging"),
    ("POST", "/v2/models/toy/generate"),
    ("GET", "/v2/models/../repository/index"),
    ("POST", "/v2/models/toy%2f..%2f..%2frepository%2fmodels%2ftoy%2funload"),
    ("GET", "/metrics"),
    ("DELETE", "/v2/models/toy"),
    ("GET", "/"),
]


@pytest.fixture
def anna(gateway: Gateway, gateway_folder: Path) -> Iterator[Caller]:
    wait_until("both replicas are in", lambda: gateway.up() == 2)
    caller = Caller(gateway.address, gateway_folder / "ca.pem", TOKENS["anna"])
    yield caller
    caller.close()


@pytest.fixture
def request_tensors() -> dict[str, np.ndarray]:
    wave = speech(2.0)
    return Triton.tensors(**slice_request(wave, 8, 16))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("output", ["FRAMES", "JPEG", "H264"])
def test_frames_are_those_of_a_direct_call(
    anna: Caller,
    replicas: list[Replica],
    request_tensors: dict[str, np.ndarray],
    protocol: str,
    output: str,
) -> None:
    assert replicas[0].server is not None
    direct = Triton(replicas[0].server, "grpc").infer("toy", request_tensors, [output])[output]
    for _ in range(2):  # the one and the other replica
        through = anna.frames(protocol, "toy", request_tensors, output)
        np.testing.assert_array_equal(through, direct)


def test_a_whole_buffer_of_sound_passes(anna: Caller, replicas: list[Replica]) -> None:
    """Near the limit of size, far over HAProxy's own default buffer."""
    wave = speech(16.0)
    tensors = Triton.tensors(wave, first=300, count=4)
    assert wave.nbytes > 0.97 * MIB
    assert replicas[0].server is not None
    direct = Triton(replicas[0].server, "grpc").infer("toy", tensors, ["JPEG"])["JPEG"]
    for protocol in PROTOCOLS:
        np.testing.assert_array_equal(anna.frames(protocol, "toy", tensors, "JPEG"), direct)


@pytest.mark.parametrize("token", [None, "", "token-of-nobody", "token-of-anna2"])
def test_without_a_callers_token_nothing_is_answered(
    gateway: Gateway, gateway_folder: Path, token: str | None
) -> None:
    caller = Caller(gateway.address, gateway_folder / "ca.pem", token)
    status, text = caller.https("GET", "/v2/models/toy/ready")
    assert status == 401
    assert b"Bearer TOKEN" in text
    assert caller.grpc_status("ServerLive") == grpc.StatusCode.UNAUTHENTICATED
    assert caller.grpc_status("ModelInfer") == grpc.StatusCode.UNAUTHENTICATED
    caller.close()


def test_the_hash_in_the_map_is_not_a_token(gateway: Gateway, gateway_folder: Path) -> None:
    stored = (gateway_folder / "plain/callers.map").read_text().split()[0]
    caller = Caller(gateway.address, gateway_folder / "ca.pem", stored)
    assert caller.https("GET", "/v2/health/live")[0] == 401
    caller.close()


@pytest.mark.parametrize(("method", "path"), CLOSED_HTTP)
def test_administration_is_closed_over_http(anna: Caller, method: str, path: str) -> None:
    body = b"{}" if method == "POST" else None
    with_key = {"lipsync-admin-key": "guessed"}
    assert anna.https(method, path, body, with_key)[0] == 403


@pytest.mark.parametrize("method", CLOSED_GRPC)
def test_administration_is_closed_over_grpc(anna: Caller, method: str) -> None:
    assert anna.grpc_status(method) == grpc.StatusCode.PERMISSION_DENIED


def test_what_is_open(anna: Caller) -> None:
    """Every method of the service is either closed above or open here, with a reason."""
    service = __import__("tritonclient.grpc.service_pb2", fromlist=["DESCRIPTOR"]).DESCRIPTOR
    methods = {m.name for m in service.services_by_name["GRPCInferenceService"].methods}
    assert methods == set(OPEN_GRPC) | set(CLOSED_GRPC)
    assert anna.grpc.is_model_ready("toy", headers=anna.headers)
    assert anna.grpc.get_model_config("toy", headers=anna.headers).config.name == "toy"
    index = anna.grpc.get_model_repository_index(headers=anna.headers, as_json=True)
    assert {"name": "toy", "version": "1", "state": "READY"} in index["models"]
    status, body = anna.https("POST", "/v2/repository/index", b"{}")
    assert status == 200
    assert "toy" in [entry["name"] for entry in json.loads(body)]
    assert anna.https("GET", "/v2/models/toy/config")[0] == 200


def test_a_scan_of_every_endpoint_finds_open_what_the_page_says(anna: Caller) -> None:
    """The list is the binary's own, and the page names each that is open."""
    binary = find_wheel().binary.read_bytes()
    found = set(re.findall(rb"(?<=\0)/(?:v2|metrics)[!-~]*(?=\0)", binary))
    assert {text.decode() for text in found} == set(TRITON_HTTP)
    for pattern, paths in TRITON_HTTP.items():
        assert all(re.fullmatch(pattern, path) for path in paths)
    scanned = {
        (method, path): anna.https(method, path, b"{}" if method == "POST" else None)[0]
        for paths in TRITON_HTTP.values()
        for path in paths
        for method in ("GET", "POST", "PUT", "DELETE")
    }
    assert {endpoint for endpoint, status in scanned.items() if status != 403} == OPEN_HTTP
    closed = grpc.StatusCode.PERMISSION_DENIED
    assert [m for m in OPEN_GRPC + CLOSED_GRPC if anna.grpc_status(m) != closed] == OPEN_GRPC
    page = (ROOT / "docs/security.md").read_text()
    table = page.split("## What is open")[1].split("##")[0]
    named = [f"{m} {p.replace('toy', 'NAME')}" for m, p in OPEN_HTTP if "/versions/" not in p]
    assert [name for name in [*named, *OPEN_GRPC] if f"`{name}`" not in table] == []


def test_oversize_bodies_are_refused(anna: Caller) -> None:
    tensors = Triton.tensors(np.zeros(MIB // 4 + 1000, np.float32), first=0, count=1)
    with pytest.raises(Exception, match="413"):
        anna.frames("grpc", "toy", tensors, "JPEG")
    announced = {"content-length": str(MIB + 1)}
    assert anna.https("POST", "/v2/models/toy/infer", None, announced)[0] == 413
    chunked = {"transfer-encoding": "chunked"}
    assert anna.https("POST", "/v2/models/toy/infer", b"5\r\nabcde\r\n0\r\n\r\n", chunked)[0] == 411


def test_a_length_that_is_only_announced_is_refused(anna: Caller) -> None:
    """The gRPC message says 1 GiB in its first bytes; the rest need not come."""
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
    """With such a shape they would end Triton 2.51."""
    tensor = b'{"name": "AUDIO", "datatype": "FP32", "shape": [10000000000000], ' + claim + b"}"
    head = b'{"inputs": [' + tensor + b'], "outputs": [{"name": "JPEG"}]}'
    lengths = {"inference-header-content-length": str(len(head))} if after else {}
    status, body = anna.https("POST", "/v2/models/toy/infer", head + after, lengths)
    assert (status, body) == (415, b"tensors are taken in binary, not as numbers in JSON\n")
    assert anna.https("GET", "/v2/health/live")[0] == 200


def test_a_caller_has_its_rate(gateway: Gateway, gateway_folder: Path, anna: Caller) -> None:
    busy = Caller(gateway.address, gateway_folder / "ca.pem", TOKENS["busy"])
    codes = [busy.https("GET", "/v2/health/live")[0] for _ in range(8)]
    assert codes == [200] * 5 + [429] * 3
    assert busy.grpc_status("ServerLive") == grpc.StatusCode.UNAVAILABLE  # gRPC's word for 429
    assert anna.https("GET", "/v2/health/live")[0] == 200  # another caller's limit is its own
    busy.close()


def test_a_caller_has_its_share_of_places(
    gateway: Gateway, gateway_folder: Path, request_tensors: dict[str, np.ndarray]
) -> None:
    """Of many at once by a caller with one place, some are refused and those let in are whole."""
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
        answers = list(pool.map(call, range(6)))
    done = [a for a in answers if a == "(16, 1)"]
    refused = [a for a in answers if "UNAVAILABLE" in a and "429" in a]
    assert done
    assert refused
    assert len(done) + len(refused) == 6, answers


def traced(caller: Caller, collector: Collector) -> bool:
    """Whether a request with a trace of its own is in it."""
    trace = secrets.token_hex(16)
    headers = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}
    tensors = {"AUDIO": speech(1.5), "FRAME_COUNT": np.array([2], np.int64)}
    assert caller.frames("http", "toy", tensors, "JPEG", headers).shape == (2, 1)
    deadline = time.monotonic() + 2  # spans are sent every 0.2 s
    while time.monotonic() < deadline and not collector.trace(trace):
        time.sleep(0.1)
    return bool(collector.trace(trace))


def test_a_request_brings_its_name_and_no_trace(
    anna: Caller, collector: Collector, gateway_folder: Path
) -> None:
    assert not traced(anna, collector)  # a caller could have every request of its own traced
    name = 'clip-7" \\ {' + "x" * 80
    assert anna.https("GET", "/v2/models/toy/ready", headers={"x-request-id": name})[0] == 200

    def lines() -> list[dict[str, Any]]:
        text = (gateway_folder / "plain/haproxy.log").read_text().splitlines()
        return [json.loads(line) for line in text if line.startswith('{"time"')]

    wait_until("it is in the log", lambda: name[:64] in {line["said"] for line in lines()}, 10)
    (line,) = [line for line in lines() if line["said"] == name[:64]]
    assert (line["caller"], line["path"]) == ("anna", "/v2/models/toy/ready")


def test_with_mutual_tls_a_valid_certificate_is_needed_too(
    replicas: list[Replica], gateway_folder: Path, collector: Collector
) -> None:
    ca = gateway_folder / "ca.pem"
    gateway = Gateway(gateway_folder / "mutual", replicas, TOKENS, client_ca=ca, tracing=True)
    try:
        wait_until("both replicas are in", lambda: gateway.up() == 2)
        certificates = {"caller": True, "caller_expired": False, "caller_stranger": False}
        for name, accepted in certificates.items():
            caller = Caller(gateway.address, ca, TOKENS["anna"], gateway_folder / f"{name}.pem")
            code = caller.grpc_status("ServerLive")
            assert code == (grpc.StatusCode.OK if accepted else grpc.StatusCode.UNAVAILABLE), name
            if accepted:
                assert traced(caller, collector)
                assert caller.https("GET", "/v2/health/live")[0] == 200
            else:
                with pytest.raises(OSError):  # noqa: PT011  an alert, or a reset
                    caller.https("GET", "/v2/health/live")
            caller.close()
        without = Caller(gateway.address, ca, TOKENS["anna"])
        assert without.grpc_status("ServerLive") == grpc.StatusCode.UNAVAILABLE
        without.close()
    finally:
        gateway.close()


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_client_hands_a_trace_on(
    replicas: list[Replica], collector: Collector, gateway_folder: Path, protocol: str
) -> None:
    server = replicas[0].server
    assert server is not None
    soundfile.write(gateway_folder / "traced.wav", speech(0.5), 16_000)
    trace = secrets.token_hex(16)
    url = server.grpc_url if protocol == "grpc" else server.http_url
    header = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}
    with LipSyncClient(url, headers=lambda: header) as client:
        assert list(client.render(gateway_folder / "traced.wav", "toy"))
    wait_until("its trace is there", lambda: bool(collector.trace(trace)), 10)


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_the_client_renders_through_it(
    anna: Caller, gateway: Gateway, gateway_folder: Path, replicas: list[Replica], scheme: str
) -> None:
    def jpegs(url: str, token: str | None = None) -> list[bytes]:
        with LipSyncClient(url, token=token, ca_file=gateway_folder / "ca.pem") as client:
            chunks = client.render(gateway_folder / "clip.wav", "toy", RenderOptions(output="JPEG"))
            return [frame for chunk in chunks for frame in chunk.frames]

    assert replicas[0].server is not None
    assert anna.grpc.is_model_ready("toy", headers=anna.headers)
    soundfile.write(gateway_folder / "clip.wav", speech(3.0), 16_000)
    url = f"{scheme}://{gateway.address}"
    assert jpegs(url, TOKENS["anna"]) == jpegs(replicas[0].server.grpc_url)
    log = (gateway_folder / "plain/haproxy.log").read_text().splitlines()
    said = [json.loads(line)["said"] for line in log if "/ModelInfer" in line or "/infer" in line]
    assert any(re.fullmatch(r"[0-9a-f]{8}-8", name or "") for name in said), "the second chunk"
    for wrong in (None, "token-of-nobody"):
        with pytest.raises(NotAllowed, match="wants a token it knows"):
            jpegs(url, wrong)
