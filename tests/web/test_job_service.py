"""The service around the jobs: callers, webhooks, metrics, the object store, the command."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from lipsync_embedded import Server
from lipsync_web import WebSettings, cli
from lipsync_web.jobs.settings import JobSettings
from support.jobs import SECRET, Receiver, RedisServer, finished, wait_until, wav, workers
from support.web import running

BIN = Path(sys.executable).parent


def add(http: httpx.Client, seconds: float, **params: str) -> str:
    added = http.post("/v1/jobs", params={"avatar": "toy", **params}, content=wav(seconds))
    assert added.status_code == 202, added.text
    return str(added.headers["location"])


def metrics(text: str) -> dict[str, float]:
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.server
def test_a_webhook_that_fails_is_called_again(web: str, receiver: Receiver) -> None:
    receiver.refuse = 1
    with httpx.Client(base_url=web, timeout=60) as http:
        at = add(http, 1.0, webhook=f"{receiver.url}/again")
        wait_until(lambda: http.get(at).json()["webhook"] == "delivered", "it was not delivered")
    calls = [call for call in receiver.calls if call.path == "/again"]
    assert len(calls) == 2
    assert calls[0].body == calls[1].body
    assert calls[0].headers["webhook-id"] == calls[1].headers["webhook-id"]
    first, second = (int(call.headers["webhook-timestamp"]) for call in calls)
    assert second - first >= 5


@pytest.mark.server
def test_a_failed_job_calls_its_webhook(web: str, receiver: Receiver) -> None:
    with httpx.Client(base_url=web, timeout=60) as http:
        params = {"format": "webm", "audio_mode": "copy"}
        at = add(http, 1.0, webhook=f"{receiver.url}/failed", **params)  # WebM holds no PCM
        job = finished(http, at)
        assert job["status"] == "failed"
        assert "copy" in job["error"] or "webm" in job["error"].lower()
        assert "/attempt-" not in job["error"]
        wait_until(lambda: any(c.path == "/failed" for c in receiver.calls), "no call came")
    (call,) = (call for call in receiver.calls if call.path == "/failed")
    assert json.loads(call.body)["type"] == "job.failed"
    assert json.loads(call.body)["data"]["error"] == job["error"]


@pytest.mark.server
def test_callers_see_their_own_jobs(server: Server, tmp_path: Path) -> None:
    callers = tmp_path / "callers.map"
    lines = [f"{hashlib.sha256(name.encode()).hexdigest()} {name}\n" for name in ("ann", "bob")]
    callers.write_text("# token is the name\n" + "".join(lines))
    settings = WebSettings(
        server.grpc_url, callers_file=callers, jobs=JobSettings(workers=0, max_caller_jobs=1)
    )
    with running(settings) as url, httpx.Client(base_url=url, timeout=60) as http:
        ann, bob = ({"authorization": f"Bearer {name}"} for name in ("ann", "bob"))
        params = {"avatar": "toy"}
        for headers in ({}, {"authorization": "Bearer eve"}, {"authorization": "Basic ann"}):
            refused = http.post("/v1/jobs", params=params, content=wav(1.0), headers=headers)
            assert refused.status_code == 401
            assert http.get("/metrics", headers=headers).status_code == 401
        added = http.post("/v1/jobs", params=params, content=wav(1.0), headers=ann)
        at = added.headers["location"]
        assert http.get(at, headers=ann).json()["status"] == "waiting"
        assert http.get(at, headers=bob).status_code == 404
        assert http.delete(at, headers=bob).status_code == 404
        assert (
            http.post("/v1/jobs", params=params, content=wav(1.0), headers=ann).status_code == 429
        )
        assert (
            http.post("/v1/jobs", params=params, content=wav(1.0), headers=bob).status_code == 202
        )
        found = metrics(http.get("/metrics", headers=bob).text)
        assert found["lipsync_jobs waiting"] == 2


@pytest.mark.server
def test_metrics_count_jobs(server: Server) -> None:
    with (
        running(WebSettings(server.grpc_url)) as url,
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        before = metrics(http.get("/metrics").text)
        assert before["lipsync_jobs_ended_total done"] == 0
        job = finished(http, add(http, 2.0))
        after = metrics(http.get("/metrics").text)
        assert after["lipsync_jobs_ended_total done"] == 1
        assert after["lipsync_jobs_frames_total"] == job["frames"]
        assert after["lipsync_jobs_attempts_total"] == 1
        assert after["lipsync_jobs waiting"] == after["lipsync_jobs running"] == 0
        assert after["lipsync_jobs_store_up"] == 1


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 server with an empty bucket, and the URL of a prefix in it."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    values = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="videos")
    yield "s3://videos/jobs"
    server.stop()


def names_in_bucket() -> set[str]:
    import boto3

    listed: dict[str, Any] = boto3.client("s3").list_objects_v2(Bucket="videos")
    return {item["Key"] for item in listed.get("Contents", ())}


@pytest.mark.server
def test_an_object_store_and_two_machines(
    server: Server, s3: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    """A worker of another machine, with another folder, continues from the chunks in the store."""
    serving = JobSettings(tmp_path / "service", redis_server.url, s3, workers=0)
    command = [
        str(BIN / "lipsync-web"), "worker", "--url", server.grpc_url, "--queue", redis_server.url,
        "--files", s3, "--lease", "3",
    ]  # fmt: skip
    with (
        running(WebSettings(server.grpc_url, jobs=serving)) as url,
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        at = add(http, 60.0, avatar="wide")
        key = at.rpartition("/")[2]
        assert names_in_bucket() == {f"jobs/{key}/audio"}
        first = subprocess.Popen([*command, "--folder", str(tmp_path / "first")])
        try:
            wait_until(
                lambda: any("/chunks/" in name for name in names_in_bucket()), "no chunk came"
            )
            first.kill()
            first.wait()
            chunks = {Path(n).name for n in names_in_bucket() if "/chunks/" in n}
            second = subprocess.Popen([*command, "--folder", str(tmp_path / "second")])
            try:
                wait_until(
                    lambda: {p.name for p in (tmp_path / "second").rglob("*.response")} >= chunks,
                    "the chunks were not fetched",
                )
                assert http.delete(at).status_code == 204
                at = add(http, 1.0)
                job = finished(http, at)
                video = http.get(job["video"]).content
                assert len(video) == job["bytes"]
                part = http.get(job["video"], headers={"range": "bytes=5-9"})
                assert (part.status_code, part.content) == (206, video[5:10])
                key = at.rpartition("/")[2]
                wait_until(
                    lambda: names_in_bucket() == {f"jobs/{key}/audio", f"jobs/{key}/video.mp4"},
                    f"left: {names_in_bucket()}",
                )
                second.send_signal(signal.SIGTERM)
                assert second.wait(60) == 0
            finally:
                second.kill()
                second.wait()
        finally:
            first.kill()
            first.wait()
        assert http.delete(at).status_code == 204
        assert names_in_bucket() == set()


@pytest.mark.server
def test_a_worker_that_is_told_to_end_gives_its_job_back(server: Server, tmp_path: Path) -> None:
    settings = WebSettings(server.grpc_url, jobs=JobSettings(tmp_path, workers=1, lease_s=3600))
    with running(settings) as url, httpx.Client(base_url=url, timeout=60) as http:
        at = add(http, 60.0, avatar="wide")
        wait_until(lambda: http.get(at).json()["frames"], "no frame came")
        (worker,) = workers(tmp_path)
        worker.terminate()
        assert worker.wait(60) == 0
        # The lease of the first one would be over in an hour.
        wait_until(lambda: http.get(at).json()["attempt"] == 2, "nobody took the job up")
        http.delete(at)
    assert workers(tmp_path) == []


@pytest.mark.server
def test_jobs_outlive_the_service(server: Server, tmp_path: Path) -> None:
    with (
        running(WebSettings(server.grpc_url, jobs=JobSettings(tmp_path, workers=0))) as url,
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        at = add(http, 1.0)
        assert http.get(at).json()["status"] == "waiting"
    with (
        running(WebSettings(server.grpc_url, jobs=JobSettings(tmp_path, workers=1))) as url,
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        assert finished(http, at)["status"] == "done"


@pytest.mark.server
def test_a_redis_that_is_gone_is_a_sentence(
    server: Server, redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lipsync_web.jobs.redis_store._RETRIES", 1)
    settings = WebSettings(
        server.grpc_url, jobs=JobSettings(tmp_path / "jobs", redis_server.url, workers=0)
    )
    with running(settings) as url, httpx.Client(base_url=url, timeout=60) as http:
        at = add(http, 1.0)
        redis_server.__exit__()
        response = http.get(at)
        assert response.status_code == 503
        assert "store" in response.json()["detail"]
        assert metrics(http.get("/metrics").text)["lipsync_jobs_store_up"] == 0
        redis_server.start()
        assert http.get(at).json()["status"] == "waiting"


def test_the_command_without_its_extra_names_it(tmp_path: Path) -> None:
    """Hide a package of the extra, as if it was not installed."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['starlette'] = None\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [BIN / "lipsync-web", "--help"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "pip install 'lipsync-triton[web]'" in line
    assert "starlette" in line


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["--host", "0.0.0.0"], "--token-file", 2),
        (["--queue", "mysql://x"], "redis://", 2),
        (["--allow-network", "10.0.0.0/99"], "network", 2),
        (["--webhook-secret-file", __file__], "whsec_", 2),
        (["worker", "--files", "nothing://x/"], "nothing", 1),
    ],
)
def test_options_that_cannot_be_used(
    arguments: list[str], words: str, code: int, tmp_path: Path
) -> None:
    if "worker" in arguments:
        arguments = [*arguments, "--folder", str(tmp_path)]
    done = CliRunner().invoke(cli.main, arguments)
    assert done.exit_code == code, done.output
    assert words in done.stderr
    assert isinstance(done.exception, SystemExit)


def test_the_secret_of_the_tests_is_one() -> None:
    from lipsync_web.jobs.webhook import parse_secret, signature

    # The example of the standard's own libraries.
    assert len(parse_secret(SECRET)) == 24
    body = b'{"test": 2432232314}'
    made = signature(parse_secret(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
