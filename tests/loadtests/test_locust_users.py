"""Every user class against a real server: Locust's counts are Triton's counts."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lipsync_client.protocol import frame_count
from lipsync_embedded import Server
from support.locust_run import LOADTESTS, LOCUST, STOP, Run, addresses, run_locust

SHORT_FRAMES = frame_count(16_000)


def done(rows: list[dict[str, Any]]) -> int:
    return sum(row["succeeded"] for row in rows)


def test_clips_over_both_protocols(locust: Callable[..., Run], tmp_path: Path) -> None:
    run = locust(
        "GrpcClips", "HttpClips", "--users", "2", "--spawn-rate", "2", "--tags", "short",
        "--stop-after", "12",
    )  # fmt: skip
    assert run.code == 0, run.log
    clips, first, chunks = (run.rows(kind) for kind in ("clip", "first frame", "chunk"))
    for rows in (clips, first, chunks):
        assert [row["type"] for row in rows] == ["HTTP", "gRPC"]
        assert min(row["succeeded"] for row in rows) > 0
    assert done(clips) == done(first)
    assert run.figures["frames"] == done(clips) * SHORT_FRAMES
    # Triton counted as many requests, and as many frames of the generator.
    assert run.server("toy")["requests"] == done(chunks) == run.figures["requests"] >= 12
    assert run.server("toy_generator")["inferences"] == run.figures["frames"]
    section = run.html.split('<section id="lipsync"')[1].split("</section>")[0]
    assert "gRPC short first frame" in section
    with (tmp_path / "run_lipsync_server.csv").open() as file:
        assert "toy_generator" in {row["model"] for row in csv.DictReader(file)}


def test_a_long_clip_is_asked_for_in_chunks(locust: Callable[..., Run]) -> None:
    run = locust("GrpcClips", "--tags", "long", "--long-seconds", "6", "--stop-after", "6")
    (clips,) = run.rows("clip")
    assert run.figures["frames"] == clips["succeeded"] * frame_count(96_000) > 0
    assert run.server("toy")["requests"] == 6 * clips["succeeded"]  # 8 and 5 times up to 32


def test_mixed_avatars_are_those_that_the_server_lists(locust: Callable[..., Run]) -> None:
    # A request a clip: sixteen draws would be all of one avatar once in 32768 runs.
    run = locust(
        "HttpClips", "--avatar", "", "--tags", "mixed", "--short-seconds", "0.3",
        "--stop-after", "16",
    )  # fmt: skip
    assert run.code == 0, run.log
    asked = [run.server(avatar)["requests"] for avatar in ("toy", "wide")]
    assert min(asked) > 0
    assert sum(asked) == run.figures["requests"]


def test_live_viewers_ask_once_a_second(locust: Callable[..., Run]) -> None:
    run = locust(
        "GrpcLive", "HttpLive", "--users", "2", "--spawn-rate", "2", "--live-deadline", "100",
        "--stop-after", "4",
    )  # fmt: skip
    chunks = run.rows("live")
    assert [row["type"] for row in chunks] == ["HTTP", "gRPC"]
    assert run.figures["frames"] == 25 * done(chunks) == run.server("toy_generator")["inferences"]
    assert run.figures["requests"] >= 4
    # On a slow machine some are not asked for, with five under way; none of those that came was late.
    assert run.server("toy")["requests"] == done(chunks) > 0
    assert run.figures["failure_ratio"] == 0


def test_late_chunks_are_failures_of_their_own(locust: Callable[..., Run]) -> None:
    run = locust(
        "GrpcLive", "--live-deadline", "0.001", "--stop-after", "2",
        "--max-failure-ratio", "0", "--max-late-ratio", "0.5",
    )  # fmt: skip
    assert run.code == 1, run.log
    assert run.figures["broken_limits"] == ["late ratio: expected at most 0.5, got 1"]
    assert run.reasons() == {"late": run.rows("live")[0]["failed"]}
    assert run.figures["frames"] == 0


@pytest.mark.soak
def test_the_knee_ends_the_run_and_is_said_in_words(locust: Callable[..., Run]) -> None:
    both = f"{LOADTESTS / 'locustfile.py'},{LOADTESTS / 'knee.py'}"
    run = locust(
        "-f", both, "GrpcClips", "--tags", "short", "--steps", "1,2", "--step-seconds", "15",
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
    common = [*LOCUST, "--headless", "--only-summary", "--stop-timeout", STOP, *addresses(server)]
    master = [
        *common, "--master", "--master-bind-port", "25557", "--expect-workers", "2",
        "--users", "4", "--spawn-rate", "4", "--stop-after", "8", "--short-seconds", "1",
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


def test_streams(locust: Callable[..., Run]) -> None:
    run = locust("StreamClips", "--tags", "short", "--stop-after", "2")
    assert run.code == 0, run.log
    (streams,), (first,) = run.rows("stream"), run.rows("first frame")
    assert first["succeeded"] == streams["succeeded"]
    assert run.figures["frames"] == streams["succeeded"] * SHORT_FRAMES > 0
    assert run.server("toy_generator")["inferences"] == run.figures["frames"]


@pytest.mark.server
@pytest.mark.soak
def test_streams_are_skipped_where_there_is_no_stream(toy_repository: Path, tmp_path: Path) -> None:
    with Server(toy_repository, models=["toy"]) as without:
        run = run_locust(without, tmp_path, "StreamClips", "--run-time", "8s")
    assert run.code == 0, run.log
    assert "users of class StreamClips are skipped" in run.log
    assert run.figures["rows"] == []
