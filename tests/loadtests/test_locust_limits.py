"""Failures by cause, and limits that turn into the exit code."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from locust_run import Run


@pytest.mark.parametrize(
    ("limits", "code", "broken"),
    [
        (["--min-fps", "0.1", "--max-failure-ratio", "0", "--max-p95-ms", "60000"], 0, []),
        (["--min-fps", "1000000"], 1, ["frames a second"]),
        (["--max-p95-ms", "1", "--max-first-frame-ms", "1"], 1, ["p95 of a chunk", "p95 of the f"]),
        (["--max-late-ratio", "1"], 1, ["late ratio: at most 1 was asked for, but nothing"]),
    ],
)
def test_limits(
    locust: Callable[..., Run], limits: list[str], code: int, broken: list[str]
) -> None:
    run = locust("GrpcClips", "--tags", "short", *limits, seconds=3)
    assert run.code == code, run.log
    said = run.figures["broken_limits"]
    assert len(said) == len(broken)
    assert all(text.startswith(start) for text, start in zip(said, broken, strict=True))
    assert ("Limit not kept" in run.html) == bool(broken)


@pytest.mark.parametrize("users", ["GrpcClips", "HttpClips"])
def test_an_unknown_avatar(locust: Callable[..., Run], users: str) -> None:
    run = locust(users, "--avatar", "nobody", seconds=3)
    assert run.code == 1, run.log
    assert set(run.causes()) == {"unknown avatar"}
    assert run.figures["failure_ratio"] == 1
    assert "nobody" in run.figures["causes"][0]["example"]


@pytest.mark.parametrize("users", ["GrpcClips", "HttpLive"])
def test_no_server(locust: Callable[..., Run], users: str) -> None:
    nowhere = "127.0.0.1:9"  # the discard port: nothing listens
    run = locust(
        users, "--grpc-url", f"grpc://{nowhere}", "--http-url", f"http://{nowhere}",
        "--metrics-url", f"http://{nowhere}/metrics", "--max-failure-ratio", "0.9", seconds=3,
    )  # fmt: skip
    assert run.code == 1, run.log
    assert set(run.causes()) == {"unreachable"}
    assert run.figures["server"] == []
    assert nowhere in run.figures["server_note"]


def test_a_model_that_is_no_avatar(locust: Callable[..., Run]) -> None:
    run = locust("HttpClips", "--avatar", "mel", seconds=3)
    assert set(run.causes()) == {"unknown avatar"}
    assert "not an avatar" in run.figures["causes"][0]["example"]


def test_settings_without_sense_end_at_once(locust: Callable[..., Run]) -> None:
    with pytest.raises(
        AssertionError, match=r"(?s)exit code 2.*cannot start: /nothing\.wav: no such file"
    ):
        locust("GrpcClips", "--audio", "/nothing.wav", seconds=60)
