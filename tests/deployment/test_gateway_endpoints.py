"""Endpoints of Triton: those that the gateway opens to callers, and all others."""

from __future__ import annotations

import json
import re

import grpc
import pytest
from tritonclient.grpc.service_pb2 import DESCRIPTOR

from lipsync_embedded._wheel import find_wheel
from support.callers import Caller
from support.replicas import ADMIN_KEY, ROOT

OPEN_GRPC = [
    "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelConfig",
    "ModelInfer", "RepositoryIndex",
]  # fmt: skip
CLOSED_GRPC = [
    "RepositoryModelLoad", "RepositoryModelUnload", "ModelStatistics", "TraceSetting", "LogSettings",
    "SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister",
    "CudaSharedMemoryStatus", "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister", "ModelStreamInfer",
]  # fmt: skip
# Every path pattern in the tritonserver binary, with the paths that it matches.
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
DISGUISED = [
    ("GET", "/v2/models/../repository/index"),
    ("POST", "/v2/models/toy%2f..%2f..%2frepository%2fmodels%2ftoy%2funload"),
    ("POST", "/v2/models/toy/infer/../../../repository/models/toy/unload"),
    ("POST", "//v2/repository/models/toy/unload"),
    ("GET", "/"),
]


@pytest.mark.parametrize(("method", "path"), DISGUISED)
def test_a_closed_path_written_in_another_way_stays_closed(
    anna: Caller, method: str, path: str
) -> None:
    body = b"{}" if method == "POST" else None
    assert anna.https(method, path, body)[0] == 403


def test_a_key_from_a_caller_opens_nothing(anna: Caller) -> None:
    """Even the right key: the gateway removes the header."""
    key = {"lipsync-admin-key": ADMIN_KEY, "triton-grpc-protocol-lipsync-admin-key": ADMIN_KEY}
    assert anna.https("GET", "/v2/models/stats", None, key)[0] == 403
    assert anna.https("POST", "/v2/repository/models/toy/unload", b"{}", key)[0] == 403


def test_open_endpoints_answer(anna: Caller) -> None:
    methods = {m.name for m in DESCRIPTOR.services_by_name["GRPCInferenceService"].methods}
    assert methods == set(OPEN_GRPC) | set(CLOSED_GRPC)
    assert anna.grpc.is_model_ready("toy", headers=anna.headers)
    assert anna.grpc.get_model_config("toy", headers=anna.headers).config.name == "toy"
    index = anna.grpc.get_model_repository_index(headers=anna.headers, as_json=True)
    assert {"name": "toy", "version": "1", "state": "READY"} in index["models"]
    status, body = anna.https("POST", "/v2/repository/index", b"{}")
    assert status == 200
    assert "toy" in [entry["name"] for entry in json.loads(body)]
    assert anna.https("GET", "/v2/models/toy/config")[0] == 200


def test_only_the_endpoints_of_the_security_page_are_open(anna: Caller) -> None:
    """Call every endpoint that the tritonserver binary knows; docs/security.md names each open one."""
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
