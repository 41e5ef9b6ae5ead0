"""The arithmetic of the load tests, on figures made by hand."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter

import pytest
from tritonclient.utils import InferenceServerException

from lipsync_client import InputError
from lipsync_client._transports.errors import to_error
from lipsync_locust import knee
from lipsync_locust.failures import Late, WrongResponse, reason_of
from lipsync_locust.server_metrics import difference, parse
from lipsync_locust.settings import Endpoint, address, headers
from lipsync_locust.summary import broken_limits, summarise
from lipsync_locust.tally import CHUNK, CLIP, LIVE, Measured, Tally, TallyRow, percentiles

METRICS = """\
# HELP nv_inference_request_success Number of successful inference requests
# TYPE nv_inference_request_success counter
nv_inference_request_success{{model="g",version="1"}} {requests}
# TYPE nv_inference_request_failure counter
nv_inference_request_failure{{model="g",reason="OTHER",version="1"}} {failures}
nv_inference_request_failure{{model="g",reason="REJECTED",version="1"}} 1
# TYPE nv_inference_count counter
nv_inference_count{{model="g",version="1"}} {count}
# TYPE nv_inference_exec_count counter
nv_inference_exec_count{{model="g",version="1"}} {executions}
# TYPE nv_inference_queue_duration_us counter
nv_inference_queue_duration_us{{model="g",version="1"}} {queue}
# TYPE nv_inference_compute_infer_duration_us counter
nv_inference_compute_infer_duration_us{{model="g",version="1"}} {infer}
# TYPE nv_gpu_power_usage gauge
nv_gpu_power_usage{{gpu_uuid="x"}} 70
"""


def metrics(
    requests: int, failures: int, count: int, executions: int, queue: int, infer: int
) -> str:
    return METRICS.format(**locals())


def test_server_figures_cover_the_run_alone() -> None:
    before, after = (
        parse(metrics(10, 2, 100, 10, 5_000, 50_000)),
        parse(metrics(14, 3, 190, 13, 13_000, 850_000)),
    )
    (load,) = difference(before, after)
    assert (load.requests, load.failures, load.inferences) == (4, 1, 90)
    assert (load.queue_ms, load.infer_ms, load.mean_batch) == (2.0, 200.0, 30.0)
    assert difference(after, after) == []


def test_a_restarted_server_is_noticed() -> None:
    with pytest.raises(ValueError, match="restarted"):
        difference(
            parse(metrics(10, 2, 100, 10, 5_000, 50_000)), parse(metrics(1, 2, 9, 1, 500, 5_000))
        )


def test_percentiles() -> None:
    row = TallyRow(CHUNK, times_ms=Counter({10: 90, 100: 5, 1000: 5}))
    assert percentiles([row]) == [10, 100, 1000]
    assert percentiles([]) == [None, None, None]


def filled() -> Tally:
    """Return a tally with successes, a rejection and two late chunks."""
    tally = Tally()
    for _ in range(4):
        tally.add(("gRPC", "short chunk"), Measured(CHUNK, frames=25), 500, None)
    tally.add(("gRPC", "short chunk"), Measured(CHUNK, frames=25), 3, "rejected", "too long")
    tally.add(("gRPC", "short total"), Measured(CLIP, clip_frames=50), 1000, None)
    tally.add(("HTTP", "live chunk"), Measured(LIVE, frames=25), 1500, "late", "after 1 s")
    tally.add(("HTTP", "live chunk"), Measured(LIVE, timed=False), 0, "late", "after 1 s")
    return tally


def test_a_summary_counts_frames_once_and_late_ones_apart() -> None:
    summary = summarise(filled(), elapsed_s=2.0)
    assert (summary.frames, summary.fps, summary.realtime_factor) == (100, 50.0, 2.0)
    assert summary.requests == 7
    assert summary.failure_ratio == pytest.approx(1 / 7)
    assert summary.late_ratio == 1.0
    assert summary.chunk_ms == {
        "p50": 500,
        "p95": 1500,
        "p99": 1500,
    }  # a refusal is not counted as a fast response
    clip = next(row for row in summary.rows if row.kind == CLIP)
    assert clip.clip_realtime_factor == 2.0
    assert [(f.reason, f.count) for f in summary.failures] == [("late", 2), ("rejected", 1)]


@pytest.mark.parametrize(
    ("limits", "broken"),
    [
        ({"max_failure_ratio": 0.2, "max_late_ratio": 1, "min_fps": 50, "max_p95_ms": 1500}, []),
        ({"max_failure_ratio": 0.1}, ["failure ratio: expected at most 0.1, got 0.1429"]),
        ({"min_fps": 51}, ["frames per second: expected at least 51, got 50"]),
        (
            {"max_first_frame_ms": 9},
            ["p95 of the first frame: expected at most 9 ms, but nothing was measured"],
        ),
        ({}, None),
    ],
)
def test_broken_limits_as_text(limits: dict[str, float], broken: list[str] | None) -> None:
    names = ("max_failure_ratio", "max_late_ratio", "max_p95_ms", "max_first_frame_ms", "min_fps")
    options = Namespace(**dict.fromkeys(names) | limits)
    assert broken_limits(summarise(filled(), elapsed_s=2.0), options) == broken


def test_two_workers_merge_into_one_tally() -> None:
    master, worker = Tally(), filled()
    master.merge(worker.drain())
    assert worker.rows == {}
    assert master.rows == filled().rows
    earlier = Tally()
    earlier.merge(filled().drain())
    master.merge(filled().drain())
    assert summarise(master, 1).frames == 200
    assert master.since(earlier).rows == filled().rows


LIMITS = knee.Limits(p95_ms=1000, late=0.01, failed=0)


def step(
    users: int, fps: float, p95: float | None = 500, late: float = 0, failed: float = 0
) -> knee.Step:
    return knee.Step(users, fps, p95, late, failed)


@pytest.mark.parametrize(
    ("steps", "users", "found", "text"),
    [
        ([step(1, 25), step(2, 50), step(4, 51)], 2, True, "With 4 users, they got 51.0"),
        ([step(1, 25), step(2, 50, late=0.02)], 1, True, "2.0% of the live chunks were late"),
        ([step(1, 25), step(2, 50, p95=1001)], 1, True, "p95 was 1001 ms (limit 1000 ms)"),
        ([step(1, 25), step(2, 50, failed=0.1)], 1, True, "10.0% of the requests failed"),
        ([step(1, 25), step(2, 0, p95=None)], 1, True, "no request was answered"),
        ([step(1, 25, p95=2000)], None, True, "No knee: 1 user broke a limit"),
        ([step(1, 25), step(2, 50)], 2, False, "No knee up to 2 users"),
        ([], None, False, "No step was finished."),
    ],
)
def test_knee(steps: list[knee.Step], users: int | None, found: bool, text: str) -> None:
    knee_found = knee.find(steps, LIMITS)
    assert (knee_found.step.users if knee_found.step else None) == users
    assert knee_found.found == found
    assert text in knee_found.text


@pytest.mark.parametrize(
    ("url", "host", "protocol", "expected"),
    [
        ("", None, "grpc", Endpoint("127.0.0.1:8001", False)),
        ("", "triton.example", "http", Endpoint("triton.example:8000", False)),
        ("", "grpc://triton.example:9001", "grpc", Endpoint("triton.example:9001", False)),
        ("", "grpc://triton.example:9001", "http", Endpoint("triton.example:8000", False)),
        ("grpcs://lips.example:443", "other", "grpc", Endpoint("lips.example:443", True)),
        ("http://[::1]:8100", None, "http", Endpoint("[::1]:8100", False)),
    ],
)
def test_addresses(url: str, host: str | None, protocol: str, expected: Endpoint) -> None:
    assert address(url, host, protocol) == expected


def test_addresses_and_headers_that_cannot_be_used() -> None:
    with pytest.raises(ValueError, match=r"expected grpc://HOST:PORT, got 'http://a:1'"):
        address("http://a:1", None, "grpc")
    assert headers("Authorization: Bearer a:b; x: 1") == {"authorization": "Bearer a:b", "x": "1"}
    with pytest.raises(ValueError, match="name: value"):
        headers("nonsense")


@pytest.mark.parametrize(
    ("status", "message", "reason"),
    [
        ("StatusCode.UNAVAILABLE", "connection refused", "unreachable"),
        ("StatusCode.UNAVAILABLE", "Exceeds maximum queue size", "overloaded"),
        ("StatusCode.DEADLINE_EXCEEDED", "Deadline Exceeded", "timeout"),
        ("StatusCode.INVALID_ARGUMENT", "AUDIO is empty", "rejected"),
        ("400", "AUDIO is empty", "rejected"),
        ("499", "timed out", "timeout"),
        ("503", "Exceeds maximum queue size", "overloaded"),
        ("404", "Request for unknown model: 'nobody' is not found", "unknown avatar"),
    ],
)
def test_reasons_of_tritons_errors(status: str, message: str, reason: str) -> None:
    error = to_error(InferenceServerException(message, status), "grpc://127.0.0.1:8001")
    assert reason_of(error) == reason
    assert message in str(error)


def test_reasons_of_other_errors() -> None:
    assert reason_of(Late()) == "late"
    assert reason_of(WrongResponse()) == "wrong response"
    assert reason_of(InputError()) == "server error"
    assert reason_of(ZeroDivisionError()) == "ZeroDivisionError"
