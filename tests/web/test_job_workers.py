"""Workers that are killed, and a Redis that restarts: every job ends, with the same video."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from lipsync_client import LipSyncClient
from lipsync_embedded import Server
from lipsync_web import WebSettings
from lipsync_web.jobs.settings import JobSettings
from support.jobs import SECRET, Receiver, RedisServer, finished, wait_until, wav, workers
from support.web import running

pytestmark = pytest.mark.server


def settings(server: Server, folder: Path, queue: str | None) -> WebSettings:
    jobs = JobSettings(
        folder,
        queue,
        workers=2,
        max_caller_jobs=100,
        lease_s=3,
        webhook_secret=SECRET,
        networks=("127.0.0.0/8", "::1/128"),
    )
    return WebSettings(server.grpc_url, jobs=jobs)


def add(http: httpx.Client, body: bytes, **params: str) -> str:
    added = http.post("/v1/jobs", params={"avatar": "toy", **params}, content=body)
    assert added.status_code == 202, added.text
    return str(added.headers["location"])


def kill_one(folder: Path, random_: random.Random) -> bool:
    """Kill a worker without a word, and return whether there was one."""
    alive = workers(folder)
    if alive:
        random_.choice(alive).kill()
    return bool(alive)


def frames_of(http: httpx.Client, locations: list[str]) -> Counter[str]:
    return Counter({at: http.get(at).json()["frames"] for at in locations})


@pytest.mark.parametrize("storage", ["SQLite", "Redis"])
def test_killed_workers(
    storage: str,
    server: Server,
    receiver: Receiver,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    redis = request.getfixturevalue("redis_server") if storage == "Redis" else None
    disturbed(server, receiver, tmp_path, redis, lengths_s=[2.0, 3.0, 4.0], kills=2)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_killed_workers(
    server: Server, receiver: Receiver, tmp_path: Path, redis_server: RedisServer
) -> None:
    disturbed(
        server, receiver, tmp_path, redis_server, lengths_s=[6.0, 9.0, 12.0, 15.0] * 10, kills=20
    )


def disturbed(
    server: Server,
    receiver: Receiver,
    folder: Path,
    redis: RedisServer | None,
    *,
    lengths_s: list[float],
    kills: int,
) -> None:
    """Kill workers while they render, restart Redis once, and compare with what nothing disturbed."""
    jobs = len(lengths_s)
    random_ = random.Random(jobs)
    bodies = [wav(seconds, seed=n) for n, seconds in enumerate(lengths_s)]
    begun = time.monotonic()
    hook = f"/{folder.name}"
    queue = None if redis is None else redis.url
    with (
        running(settings(server, folder / "jobs", queue)) as url,
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        locations = [
            add(http, body, webhook=f"{receiver.url}{hook}/{n}") for n, body in enumerate(bodies)
        ]
        for done in range(kills):
            before = frames_of(http, locations)
            wait_until(
                lambda before=before: (  # type: ignore[misc]
                    frames_of(http, locations).total() > before.total()
                    or all(http.get(at).json()["ended"] for at in locations)
                ),
                "no worker makes frames",
            )
            wait_until(lambda: kill_one(folder / "jobs", random_), "there is no worker")
            if redis is not None and done == kills // 2:
                redis.restart()
            time.sleep(random_.uniform(0, 1))
        ended = [finished(http, at, timeout_s=1200) for at in locations]
        assert [job["status"] for job in ended] == ["done"] * jobs, ended
        videos = [http.get(job["video"]).content for job in ended]
        wait_until(
            lambda: all(http.get(at).json()["webhook"] == "delivered" for at in locations),
            "a webhook was not delivered",
            timeout_s=600,
        )
    seconds = time.monotonic() - begun
    attempts = sum(job["attempt"] for job in ended)
    check_calls(receiver, hook, ended)
    assert attempts > jobs, "no worker was killed while it rendered"
    with LipSyncClient(server.grpc_url) as client:
        for number, (body, video) in enumerate(zip(bodies, videos, strict=True)):
            (folder / "clip.wav").write_bytes(body)
            path = folder / f"undisturbed-{number}.mp4"
            client.render_to_file(folder / "clip.wav", path, "toy")
            assert path.read_bytes() == video
    calls = sum(call.path.startswith(f"{hook}/") for call in receiver.calls)
    print(
        f"{jobs} jobs, {kills} workers killed: {attempts} attempts, {calls} calls, {seconds:.0f} s"
    )


def check_calls(receiver: Receiver, hook: str, ended: list[dict[str, Any]]) -> None:
    """Check that each job's webhook came at least once, signed as the standard says."""
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    for number, job in enumerate(ended):
        calls = [call for call in receiver.calls if call.path == f"{hook}/{number}"]
        assert calls, f"job {number} had no call"
        assert len({call.headers["webhook-id"] for call in calls}) == 1
        for call in calls:
            data = json.loads(call.body)
            assert (data["type"], data["data"]["id"]) == ("job.done", job["id"])
            message, time_s = call.headers["webhook-id"], call.headers["webhook-timestamp"]
            signed = f"{message}.{time_s}.".encode() + call.body
            digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
            assert call.headers["webhook-signature"] == f"v1,{digest}"


def test_the_next_worker_continues(server: Server, tmp_path: Path) -> None:
    """Request nothing again that the killed worker has made."""
    asked = settings(server, tmp_path, None)
    with (
        running(replace(asked, jobs=replace(asked.jobs, workers=1))) as url,
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        at = add(http, wav(60.0), avatar="wide")
        wait_until(lambda: http.get(at).json()["frames"] >= 100, "no frames came")
        (worker,) = workers(tmp_path)
        worker.kill()
        chunks = {path.name for path in tmp_path.rglob("*.response")}
        assert len(chunks) >= 3
        times = {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*.response")}
        wait_until(lambda: http.get(at).json()["attempt"] == 2, "nobody took the job up")
        wait_until(lambda: http.get(at).json()["frames"] >= 100, "no frames came")
        again = {
            path.name: path.stat().st_mtime_ns
            for path in tmp_path.rglob("*.response")
            if path.name in times
        }
        assert again
        assert all(times[name] == when for name, when in again.items())
        http.delete(at)
