"""Failures by reason, and limits that decide the exit code."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.locust_run import Run


@pytest.mark.parametrize(
    ("limits", "code", "broken"),
    [
        (["--min-fps", "0.01", "--max-failure-ratio", "0", "--max-p95-ms", "60000"], 0, 0),
        (["--min-fps", "1000000", "--max-first-frame-ms", "1"], 1, 2),
    ],
)
def test_limits(locust: Callable[..., Run], limits: list[str], code: int, broken: int) -> None:
    run = locust("GrpcClips", "--tags", "short", "--stop-after", "2", *limits)
    assert run.code == code, run.log
    assert len(run.figures["broken_limits"]) == broken
    assert run.html.count("Limit broken") == broken


def test_an_unknown_avatar(locust: Callable[..., Run]) -> None:
    run = locust(
        "GrpcClips", "HttpClips", "--users", "2", "--spawn-rate", "2", "--avatar", "nobody",
        "--stop-after", "4",
    )  # fmt: skip
    assert run.code == 1, run.log
    assert set(run.reasons()) == {"unknown avatar"}
    assert {f["type"] for f in run.figures["failures"]} == {"gRPC", "HTTP"}
    assert all("nobody" in f["example"] for f in run.figures["failures"])
    assert run.figures["failure_ratio"] == 1


def test_no_server(locust: Callable[..., Run]) -> None:
    nowhere = "127.0.0.1:9"  # the discard port: nothing listens
    run = locust(
        "GrpcClips", "HttpClips", "GrpcLive", "HttpLive", "--users", "4", "--spawn-rate", "4",
        "--grpc-url", f"grpc://{nowhere}", "--http-url", f"http://{nowhere}",
        "--metrics-url", f"http://{nowhere}/metrics", "--max-failure-ratio", "0.9",
        "--stop-after", "8",
    )  # fmt: skip
    assert run.code == 1, run.log
    assert set(run.reasons()) == {"unreachable"}
    assert run.figures["server"] == []
    assert nowhere in run.figures["server_note"]


def test_settings_that_cannot_be_used_end_the_run(locust: Callable[..., Run]) -> None:
    with pytest.raises(
        AssertionError, match=r"(?s)exit code 2.*cannot start: /nothing\.wav: no such"
    ):
        locust("GrpcClips", "--audio", "/nothing.wav")
