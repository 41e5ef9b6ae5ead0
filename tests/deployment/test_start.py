"""What the images run: the start script, the secrets, a bulk job; on the embedded server."""

from __future__ import annotations

import json
import os
import re
import secrets as randomness
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from lipsync_embedded import Server
from support.collector import Collector, Span
from support.programs import program
from support.replicas import ROOT, status, wait_until
from support.triton_calls import PROTOCOLS, Triton, slice_request, speech

HOST = "127.0.0.9"  # the ports are the image's own, so the address is one that nobody else here has
BIN = str(Path(sys.executable).parent)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """docker/make-secrets, run twice in a copy: what is there stays."""
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


@pytest.fixture(scope="module")
def started(
    secrets: Path,
    collector: Collector,
    toy_repository: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Path]:
    """docker/triton/start as Dockerfile.cpu's entry point has it, with tracing, and without metrics."""
    folder = tmp_path_factory.mktemp("started")
    environment = os.environ | {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "LIPSYNC_SERVER": "embedded",
        "TMPDIR": str(folder),
        "LIPSYNC_REPOSITORY": str(toy_repository),
        "LIPSYNC_HOST": HOST,
        "TRITON_HTTP": f"http://{HOST}:8000",
        "TRITON_ADMIN_KEY_FILE": str(secrets / "triton_admin_key"),
        "TRITON_DRAIN_FILE": str(folder / "drain"),
        "MODELS_READY_BIND": f"{HOST}:8003",
        "LIPSYNC_OTLP_URL": collector.url,
        "LIPSYNC_TRACE_RATE": "0",
        "OTEL_BSP_SCHEDULE_DELAY": "200",  # ms from the end of a step to its export
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [ROOT / "docker/triton/start", "--allow-metrics=false"],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until(
            "every model is ready",
            lambda: status(f"http://{HOST}:8003/ready") == 200 or process.poll() is not None,
            200,
        )
        assert process.poll() is None, (folder / "log").read_text()
        yield folder
    finally:
        process.terminate()
        process.wait(60)
        os.killpg(process.pid, signal.SIGKILL)  # the probe; in a container it ends with the server


def ask(path: str, key: str | None) -> tuple[int, bytes]:
    headers = {} if key is None else {"lipsync-admin-key": key}
    request = urllib.request.Request(f"http://{HOST}:8000{path}", b"{}", headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as e:
        return e.code, e.read()


@pytest.mark.usefixtures("started")
def test_administration_needs_the_key_over_http(secrets: Path) -> None:
    key = (secrets / "triton_admin_key").read_text().strip()
    for path in (
        "/v2/repository/index",
        "/v2/repository/models/toy/unload",
        "/v2/systemsharedmemory/region/x/register",
        "/v2/trace/setting",
        "/v2/logging",
    ):
        assert ask(path, None)[0] == 403, path
        assert ask(path, "0" * 64)[0] == 403, path
    code, body = ask("/v2/repository/index", key)
    assert code == 200
    assert "toy" in [entry["name"] for entry in json.loads(body)]
    # Even with the key: models are what the repository holds.
    code, body = ask("/v2/repository/models/toy/unload", key)
    assert code == 503
    assert b"not allowed" in body
    assert status(f"http://{HOST}:8000/v2/models/toy/ready") == 200


@pytest.mark.usefixtures("started")
def test_administration_needs_the_key_over_grpc(secrets: Path) -> None:
    key = (secrets / "triton_admin_key").read_text().strip()
    with grpc.insecure_channel(f"{HOST}:8001") as channel:
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


def ask_for_frames(
    protocol: str, headers: dict[str, str], request_id: str, count: int = 4, seconds: float = 1.5
) -> Any:
    """JPEGs of `toy` straight from the server."""
    module: Any = tritonclient.grpc if protocol == "grpc" else tritonclient.http
    client = module.InferenceServerClient(f"{HOST}:{8001 if protocol == 'grpc' else 8000}")
    inputs = []
    for name, array in Triton.tensors(**slice_request(speech(seconds), 8, count)).items():
        inputs.append(module.InferInput(name, array.shape, np_to_triton_dtype(array.dtype)))
        inputs[-1].set_data_from_numpy(array)
    wanted = [module.InferRequestedOutput("JPEG")]
    try:
        return client.infer(
            "toy", inputs, outputs=wanted, headers=headers, request_id=request_id
        ).as_numpy("JPEG")
    finally:
        client.close()


STEPS = ["toy", "mel", "audio_encoder", "audio_window", "toy_generator", "toy_compositor"]


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_callers_trace_goes_on_through_every_step(collector: Collector, protocol: str) -> None:
    trace, parent = randomness.token_hex(16), randomness.token_hex(8)
    headers = {"traceparent": f"00-{trace}-{parent}-01"}
    assert len(ask_for_frames(protocol, headers, f"traced-{protocol}")) == 4
    spans: list[Span] = []

    def all_came() -> bool:
        spans[:] = collector.trace(trace)
        return set(STEPS) <= {span.name for span in spans}

    wait_until("the trace has every step", all_came, 20)
    (top,) = [span for span in spans if span.parent == parent]
    by_id = {span.id: span for span in spans}
    for span in spans:
        assert span is top or span.parent in by_id
        assert span.service == "lipsync-triton"
        assert top.begin <= span.begin < span.end <= top.end
    (ensemble,) = [span for span in spans if span.name == "toy"]
    for step in STEPS[1:]:
        (span,) = [span for span in spans if span.name == step]  # what nobody asked for did not run
        assert by_id[span.parent] is ensemble
        assert span.attributes["triton.request_id"] == f"traced-{protocol}"
    # At rate 0, requests without a trace of their own leave none.
    known = len(collector.spans)
    ask_for_frames(protocol, {}, "untraced")
    time.sleep(1.0)
    assert len(collector.spans) == known


@pytest.mark.usefixtures("started")
def test_a_traced_stream_is_answered(collector: Collector) -> None:
    """Handing its trace on to its inner requests would end the server."""
    trace = randomness.token_hex(16)
    client = tritonclient.grpc.InferenceServerClient(f"{HOST}:8001")
    answers: list[Any] = []
    inputs = []
    for name, array, kind in (
        ("AUDIO", speech(1.0), "FP32"),
        ("AVATAR", np.array(["toy"], object), "BYTES"),
    ):
        inputs.append(tritonclient.grpc.InferInput(name, array.shape, kind))
        inputs[-1].set_data_from_numpy(array)
    client.start_stream(
        lambda result, error: answers.append(error or result),
        headers={"traceparent": f"00-{trace}-{randomness.token_hex(8)}-01"},
    )
    client.async_stream_infer("stream", inputs)
    wait_until("both chunks are answered", lambda: len(answers) >= 2, 60)
    client.stop_stream()
    client.close()
    assert [int(answer.as_numpy("FRAME_START")[0]) for answer in answers[:2]] == [0, 8]
    wait_until("the trace has it", lambda: "stream" in {s.name for s in collector.trace(trace)}, 20)
    assert status(f"http://{HOST}:8000/v2/health/ready") == 200


def test_the_log_has_times_and_refusals_without_metrics(started: Path) -> None:
    with pytest.raises(InferenceServerException, match="at most 32"):
        ask_for_frames("grpc", {}, "refused-1", count=33, seconds=4.0)
    assert status(f"http://{HOST}:8002/metrics") == 0
    wait_until("it is printed", lambda: "refused-1" in (started / "log").read_text(), 10)
    lines = (started / "log").read_text().splitlines()
    (line,) = [line for line in lines if "refused-1" in line]
    time_of, _, message = line.partition("] ")
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ W \d+ lipsync_telemetry.py:\d+$", time_of)
    assert json.loads(json.loads(message))["cause"] == "too_many_frames"
    assert not any(
        "counts no lipsync_" in line for line in lines
    )  # the numbers are kept all the same


def test_a_drained_server_is_alive_and_not_ready(started: Path) -> None:
    drain = started / "drain"
    drain.touch()
    assert status(f"http://{HOST}:8003/ready") == 503
    assert status(f"http://{HOST}:8003/alive") == 200
    drain.unlink()
    assert status(f"http://{HOST}:8003/ready") == 200


@pytest.mark.parametrize("key", ["", "short", "x" * 31, "a=b" * 20])
def test_a_poor_key_is_refused(tmp_path: Path, key: str) -> None:
    file = tmp_path / "key"
    file.write_text(key)
    environment = os.environ | {"TRITON_ADMIN_KEY_FILE": str(file)}
    done = subprocess.run([ROOT / "docker/triton/start"], env=environment, capture_output=True)
    assert done.returncode == 1
    assert b"32 or more" in done.stderr


def test_a_bulk_job_renders_its_share_once(server: Server, tmp_path: Path) -> None:
    program("rclone")
    store = tmp_path / "store"
    store.mkdir()
    with av.open(str(store / "speech.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            (speech(0.6)[None] * 32767).astype("int16"), format="s16", layout="mono"
        )
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
    lines = [f"speech.wav\ttoy\tout/{n}.mp4" for n in range(3)] + ["lost.wav\ttoy\tout/3.mp4"]
    (store / "list.tsv").write_text("\n".join(lines))  # no newline at the end: the last line counts
    environment = os.environ | {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "STORE": str(store),
        "LIST": "list.tsv",
        "TRITON_URL": server.http_url,
        "JOB_COMPLETIONS": "2",
    }

    def index(number: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ROOT / "docker/bulk/render-listed"],
            env=environment | {"JOB_COMPLETION_INDEX": number},
            capture_output=True,
            text=True,
        )

    first = index("0")
    assert first.returncode == 0, first.stderr
    assert sorted(p.name for p in (store / "out").iterdir()) == ["0.mp4", "2.mp4"]
    second = index("1")
    assert second.returncode == 1  # a file that is not there; the other is made all the same
    assert "failed: out/3.mp4" in second.stderr
    assert sorted(p.name for p in (store / "out").iterdir()) == ["0.mp4", "1.mp4", "2.mp4"]
    again = index("0")
    assert again.stdout.count("there already") == 2
