"""Traces of a request through every step, at the container's server."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc

from support.collector import Collector, Span
from support.containers import CONTAINER_HOST
from support.raw_requests import request_frames
from support.replicas import status, wait_until
from support.traces import spans_of, trace_header
from support.triton_calls import PROTOCOLS, speech

STEPS = ["toy", "mel", "audio_encoder", "audio_window", "toy_generator", "toy_compositor"]


@pytest.mark.usefixtures("container")
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_callers_trace_continues_through_every_step(collector: Collector, protocol: str) -> None:
    spans: list[Span] = []
    parent = ""

    def traced() -> list[Span]:
        nonlocal parent
        trace, header = trace_header()
        parent = header["traceparent"].split("-")[2]
        assert len(request_frames(protocol, header, f"traced-{protocol}")) == 4
        spans[:] = spans_of(collector, trace, set(STEPS))
        return spans

    wait_until("the spans of a request have come", traced)
    (top,) = [span for span in spans if span.parent == parent]
    by_id = {span.id: span for span in spans}
    for span in spans:
        assert span is top or span.parent in by_id
        assert span.service == "lipsync-triton"
        assert top.begin <= span.begin < span.end <= top.end
    (ensemble,) = [span for span in spans if span.name == "toy"]
    for step in STEPS[1:]:
        (span,) = [span for span in spans if span.name == step]  # steps of other outputs do not run
        assert by_id[span.parent] is ensemble
        assert span.attributes["triton.request_id"] == f"traced-{protocol}"
    # At rate 0, requests without a trace of their own leave none.
    known = len(collector.spans)
    request_frames(protocol, {}, "untraced")
    time.sleep(1.0)
    assert len(collector.spans) == known


@pytest.mark.usefixtures("container")
def test_a_traced_stream_is_answered(collector: Collector) -> None:
    """Its inner requests must not carry its trace: tritonserver 2.51 would die."""
    wait_until("a stream's trace has come", lambda: _stream_is_traced(collector))
    assert status(f"http://{CONTAINER_HOST}:8000/v2/health/ready") == 200


def _stream_is_traced(collector: Collector) -> bool:
    """Stream with a trace; return whether its spans came."""
    trace, header = trace_header()
    client = tritonclient.grpc.InferenceServerClient(f"{CONTAINER_HOST}:8001")
    responses: list[Any] = []
    inputs = []
    for name, array, datatype in (
        ("AUDIO", speech(1.0), "FP32"),
        ("AVATAR", np.array(["toy"], object), "BYTES"),
    ):
        inputs.append(tritonclient.grpc.InferInput(name, array.shape, datatype))
        inputs[-1].set_data_from_numpy(array)
    client.start_stream(lambda result, error: responses.append(error or result), headers=header)
    client.async_stream_infer("stream", inputs)
    wait_until("both chunks have come", lambda: len(responses) >= 2)
    client.stop_stream()
    client.close()
    assert [int(response.as_numpy("FRAME_START")[0]) for response in responses[:2]] == [0, 8]
    return bool(spans_of(collector, trace, {"stream"}))
