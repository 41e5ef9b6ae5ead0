"""The telemetry of the Python models: metrics for Prometheus, and a line of JSON for each refused request."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.utils import InferenceServerException

from lipsync_embedded import Server
from support.replicas import ROOT, wait_until
from support.triton_calls import PROTOCOLS, Triton, slice_request, speech

Metrics = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def metrics(server: Server) -> Metrics:
    """Return every metric of ours on the metrics page, by name and labels."""
    with urllib.request.urlopen(server.metrics_url, timeout=10) as response:
        families = text_string_to_metric_families(response.read().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith("lipsync_")
    }


def value(now: Metrics, name: str, **labels: str) -> float:
    return now[name, tuple(sorted(labels.items()))]


def logged(server: Server) -> list[dict[str, Any]]:
    """Return our models' lines in Triton's log, which writes every message as a string of JSON."""
    messages = [line.partition("] ")[2] for line in server.log_tail(10_000).splitlines()]
    ours = [json.loads(m) for m in messages if m.startswith('"{\\"event\\"')]
    return [json.loads(message) for message in ours]


def logged_of(server: Server, request_id: str) -> dict[str, Any]:
    """Return the only line of a request, once it is written."""

    def lines() -> list[dict[str, Any]]:
        return [entry for entry in logged(server) if entry["request"] == request_id]

    wait_until("the line is written", lines)
    (line,) = lines()
    return line


def infer(
    server: Server, protocol: str, request_id: str, tensors: dict[str, NDArray[Any]], **more: Any
) -> Any:
    """Send one request for JPEGs of `toy`, with an id of its own."""
    triton = Triton(server, protocol)
    inputs = []
    for name, array in tensors.items():
        kind = {"float32": "FP32", "int64": "INT64"}[str(array.dtype)]
        inputs.append(triton.module.InferInput(name, array.shape, kind))
        inputs[-1].set_data_from_numpy(array)
    wanted = [triton.module.InferRequestedOutput("JPEG")]
    return triton.client.infer("toy", inputs, outputs=wanted, request_id=request_id, **more)


def test_every_model_has_the_same_file() -> None:
    texts = {path.read_text() for path in ROOT.glob("model_repository/*/1/lipsync_telemetry.py")}
    models = {path.parent for path in ROOT.glob("model_repository/*/1/model.py")}
    assert len(models) == 3
    assert len(texts) == 1
    assert all((folder / "lipsync_telemetry.py").is_file() for folder in models)


def test_frames_and_time_are_counted(server: Server) -> None:
    """Two avatars are two processes that share metric families; each has metrics of its own."""
    triton, wave = Triton(server, "grpc"), speech(1.5)
    before = metrics(server)
    for avatar, output, count in (
        ("toy", "JPEG", 4), ("toy", "H264", 3), ("wide", "H264", 2), ("wide", "FRAMES", 1),
    ):  # fmt: skip
        triton.infer(avatar, Triton.tensors(**slice_request(wave, 8, count)), [output])
    after = metrics(server)
    made = {
        (avatar, output): value(after, "lipsync_frames_total", avatar=avatar, output=output)
        - value(before, "lipsync_frames_total", avatar=avatar, output=output)
        for avatar in ("toy", "wide")
        for output in ("FRAMES", "JPEG", "H264")
    }
    assert made == {
        ("toy", "FRAMES"): 0, ("toy", "JPEG"): 4, ("toy", "H264"): 3,
        ("wide", "FRAMES"): 1, ("wide", "JPEG"): 0, ("wide", "H264"): 2,
    }  # fmt: skip
    for model, stage in (
        ("mel", "mel"), ("toy_compositor", "paste"), ("toy_compositor", "encode"),
        ("wide_compositor", "paste"), ("wide_compositor", "encode"),
    ):  # fmt: skip
        labels = {"model": model, "stage": stage}
        spent = value(after, "lipsync_stage_seconds_total", **labels) - value(
            before, "lipsync_stage_seconds_total", **labels
        )
        assert 0 < spent < 60, labels


@pytest.mark.parametrize(
    ("model", "reason", "change", "parameters"),
    [
        ("mel", "empty", {"AUDIO": np.zeros(0, np.float32)}, None),
        ("mel", "not_finite", {"AUDIO": np.full(24_000, np.nan, np.float32)}, None),
        ("mel", "out_of_range", {"FRAME_COUNT": np.array([0], np.int64)}, None),
        ("mel", "too_many_frames", {"FRAME_COUNT": np.array([33], np.int64)}, None),
        ("mel", "uncovered", {"AUDIO_START": np.array([16_000], np.int64)}, None),
        ("toy_compositor", "option", {}, {"jpeg_quality": 101}),
    ],
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_refusal_is_counted_and_logged(
    server: Server,
    protocol: str,
    model: str,
    reason: str,
    change: dict[str, NDArray[Any]],
    parameters: dict[str, Any] | None,
) -> None:
    wave = speech(1.5, seed=7)
    tensors = Triton.tensors(wave, start=0, clip=48_000, first=0, count=4) | change
    request_id = f"{protocol}-{reason}"
    before = value(metrics(server), "lipsync_refused_total", model=model, reason=reason)
    with pytest.raises(InferenceServerException):
        infer(server, protocol, request_id, tensors, parameters=parameters)
    after = value(metrics(server), "lipsync_refused_total", model=model, reason=reason)
    assert after - before == 1
    line = logged_of(server, request_id)
    assert line["event"] == "refused"
    assert (line["model"], line["reason"]) == (model, reason)
    assert line["message"]
    assert set(line) == {
        "event",
        "request",
        "model",
        "reason",
        "message",
    }  # and nothing of the audio


def test_what_a_caller_writes_stays_one_line_of_json(server: Server) -> None:
    wave = speech(1.0)
    nasty = 'a"b\\c\nE0101 12:00:00 1 fake.cc:1] {"event": "refused"}' + "x" * 5000
    with pytest.raises(InferenceServerException):
        infer(server, "grpc", nasty, Triton.tensors(wave, first=0, count=33))
    with pytest.raises(InferenceServerException):
        infer(
            server,
            "grpc",
            "n2",
            Triton.tensors(wave, first=0, count=2),
            parameters={"preset": nasty},
        )
    assert logged_of(server, nasty[:300])
    message = logged_of(server, "n2")["message"]
    assert message.startswith("parameter preset must be one of")
    assert len(message) == 300
    whole = [line for line in server.log_tail(10_000).splitlines() if "fake.cc" in line]
    assert [line.startswith("W") and "lipsync_telemetry.py" in line for line in whole] == [True] * 2


def test_streams_are_counted_while_they_are_open(server: Server) -> None:
    client = tritonclient.grpc.InferenceServerClient(server.grpc_url.split("//")[1])
    responses: list[Any] = []

    def complete() -> bool:
        def final(result: Any) -> bool:
            if isinstance(result, InferenceServerException):
                return True
            return bool(result.get_response().parameters["triton_final_response"].bool_param)

        return sum(map(final, responses)) == 2

    def begin(avatar: str, request_id: str, seconds: float) -> None:
        inputs = []
        for name, array, kind in (
            ("AUDIO", speech(seconds), "FP32"),
            ("AVATAR", np.array([avatar], object), "BYTES"),
        ):
            inputs.append(tritonclient.grpc.InferInput(name, array.shape, kind))
            inputs[-1].set_data_from_numpy(array)
        client.async_stream_infer(
            "stream", inputs, request_id=request_id, enable_empty_final_response=True
        )

    assert value(metrics(server), "lipsync_streams_open") == 0
    refused: Callable[[], float] = lambda: value(  # noqa: E731
        metrics(server), "lipsync_refused_total", model="stream", reason="avatar"
    )
    before = refused()
    client.start_stream(lambda result, error: responses.append(error or result))
    begin("toy", "clip-1", 8.0)
    begin("nobody", "clip-2", 1.0)
    wait_until("a stream is open", lambda: value(metrics(server), "lipsync_streams_open") >= 1)
    wait_until("both are complete", complete)
    client.stop_stream()
    client.close()
    wait_until("none is open", lambda: value(metrics(server), "lipsync_streams_open") == 0)
    assert refused() - before == 1
    line = logged_of(server, "clip-2")
    assert (line["model"], line["reason"]) == ("stream", "avatar")
    assert "nobody" in line["message"]


@pytest.mark.server
@pytest.mark.soak
def test_an_avatars_metrics_go_and_come_with_it(toy_repository: Path) -> None:
    """Count in the other models that share a metric family when one is unloaded."""
    models = [path.name for path in toy_repository.iterdir() if not path.name.startswith("wide")]
    tensors = Triton.tensors(**slice_request(speech(1.5), 8, 4))
    wide = ("wide_generator", "wide_compositor", "wide")
    with Server(toy_repository, models=models) as running:
        triton = Triton(running, "http")

        def made(avatar: str) -> float:
            labels = {"avatar": avatar, "output": "JPEG"}
            return value(metrics(running), "lipsync_frames_total", **labels)

        triton.infer("toy", tensors, ["JPEG"])
        for _ in range(2):
            for model in wide:
                triton.client.load_model(model)
            triton.infer("wide", tensors, ["JPEG"])
            triton.infer("toy", tensors, ["JPEG"])
            assert made("wide") >= 4
            for model in reversed(wide):
                triton.client.unload_model(model)
            wait_until(
                "the model is unloaded", lambda: not triton.client.is_model_ready("wide_compositor")
            )
            triton.infer("toy", tensors, ["JPEG"])
        assert made("toy") == 5 * 4
