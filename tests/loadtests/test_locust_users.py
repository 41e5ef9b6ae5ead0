"""Every user class against a real server: what Locust counted is what Triton counted."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from lipsync_client._timeline import frame_count
from lipsync_embedded import Server
from locust_run import LOADTESTS, LOCUST, Run, addresses

SHORT_FRAMES = frame_count(16_000)


@pytest.mark.parametrize(("users", "protocol"), [("GrpcClips", "gRPC"), ("HttpClips", "HTTP")])
def test_clips(locust: Callable[..., Run], tmp_path: Path, users: str, protocol: str) -> None:
    run = locust(users, "--users", "2", "--spawn-rate", "2", "--tags", "short")
    assert run.code == 0, run.log
    clips, first, chunks = (run.rows(kind) for kind in ("clip", "first frame", "chunk"))
    assert [r["type"] for r in clips + first + chunks] == [protocol] * 3
    assert clips[0]["succeeded"] == first[0]["succeeded"] > 0
    assert run.figures["frames"] == clips[0]["succeeded"] * SHORT_FRAMES
    # Triton's own word: as many requests, and as many frames through the generator.
    assert run.server("toy")["requests"] == chunks[0]["succeeded"] == run.figures["requests"]
    assert run.server("toy_generator")["inferences"] == run.figures["frames"]
    assert first[0]["p50"] <= clips[0]["p50"]
    assert '<section id="lipsync"' in run.html
    assert f"{protocol} short first frame" in run.html.split("</section>")[0]
    with (tmp_path / "run_lipsync_server.csv").open() as file:
        assert "toy_generator" in {row["model"] for row in csv.DictReader(file)}


def test_a_long_clip_has_several_requests_under_way(locust: Callable[..., Run]) -> None:
    run = locust("GrpcClips", "--tags", "long", "--long-seconds", "6")
    (clips,) = run.rows("clip")
    assert run.figures["frames"] == clips["succeeded"] * frame_count(96_000) > 0
    assert run.server("toy")["requests"] == 6 * clips["succeeded"]  # 8 and 5 times up to 32
    # One after the other they could not take longer than the whole.
    (chunks,) = run.rows("chunk")
    assert 6 * chunks["p50"] > clips["p50"]


def test_mixed_avatars_are_those_that_the_server_lists(locust: Callable[..., Run]) -> None:
    run = locust("HttpClips", "--avatar", "", "--tags", "mixed", "--users", "3", seconds=8)
    assert run.code == 0, run.log
    asked = [run.server(avatar)["requests"] for avatar in ("toy", "wide")]
    assert min(asked) > 0
    assert sum(asked) == run.figures["requests"]


@pytest.mark.parametrize(("users", "protocol"), [("GrpcLive", "gRPC"), ("HttpLive", "HTTP")])
def test_live_viewers_keep_their_pace(
    locust: Callable[..., Run], users: str, protocol: str
) -> None:
    run = locust(users, "--live-deadline", "50", seconds=5)
    assert run.code == 0, run.log
    (chunks,) = run.rows("live")
    assert chunks["type"] == protocol
    assert 3 <= chunks["succeeded"] <= 5  # one a second, whatever the server does
    assert run.figures["frames"] == 25 * chunks["succeeded"]
    assert run.figures["late_ratio"] == 0


def test_late_chunks_are_failures_of_their_own(locust: Callable[..., Run]) -> None:
    run = locust("GrpcLive", "--live-deadline", "0.001", "--max-failure-ratio", "0")
    assert run.code == 0, run.log  # late is not broken ...
    assert run.figures["late_ratio"] == 1
    assert run.causes() == {"late": run.rows("live")[0]["failed"]}
    assert run.figures["frames"] == 0
    again = locust("GrpcLive", "--live-deadline", "0.001", "--max-late-ratio", "0.5")
    assert again.code == 1, again.log  # ... but has a limit of its own


def test_the_knee_ends_the_run_and_is_said_in_words(locust: Callable[..., Run]) -> None:
    both = f"{LOADTESTS / 'locustfile.py'},{LOADTESTS / 'knee.py'}"
    run = locust(
        "-f", both, "GrpcClips", "--tags", "short", "--steps", "1,2", "--step-seconds", "5",
        "--knee-p95-ms", "1",
    )  # fmt: skip
    assert run.code == 0, run.log
    (step,) = run.figures["steps"]  # the first is past the limit, the second is not tried
    assert step["users"] == 1
    assert step["fps"] > 0
    assert run.figures["knee"].startswith("No knee: already 1 user were too many: p95 was")
    assert run.figures["knee"] in run.html


def test_master_and_workers_give_one_report(server: Server, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    common = [*LOCUST, "--headless", "--only-summary", "--stop-timeout", "60s", *addresses(server)]
    master = [
        *common, "--master", "--master-bind-port", "25557", "--expect-workers", "2",
        "--users", "4", "--spawn-rate", "4", "--run-time", "5s", "--short-seconds", "1",
        "--tags", "short", "--summary", str(figures), "GrpcClips",
    ]  # fmt: skip
    worker = [*LOCUST, "--worker", "--master-port", "25557", "--tags", "short", "GrpcClips"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    started = [subprocess.Popen(c, **pipes) for c in (master, worker, worker)]  # type: ignore[call-overload]
    logs = [process.communicate(timeout=150)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], logs
    run = Run(0, logs[0], json.loads(figures.read_text()), "")
    (clips,) = run.rows("clip")
    assert run.figures["frames"] == clips["succeeded"] * SHORT_FRAMES > 0
    assert run.server("toy_generator")["inferences"] == run.figures["frames"]
