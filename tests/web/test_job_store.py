"""The records of jobs: the same in SQLite and in Redis."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lipsync_web.jobs.files import JobFiles
from lipsync_web.jobs.job import Job
from lipsync_web.jobs.open_store import open_store
from lipsync_web.jobs.options import JobOptions
from lipsync_web.jobs.queue import JobQueue
from lipsync_web.jobs.settings import JobSettings, WorkerSettings
from lipsync_web.jobs.store import JobStore, TooManyJobs, update
from lipsync_web.jobs.sweep import Sweep
from support.jobs import RedisServer


@pytest.fixture(params=["SQLite", "Redis"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> JobSettings:
    queue = None
    if request.param == "Redis":
        redis: RedisServer = request.getfixturevalue("redis_server")
        queue = redis.url
    return JobSettings(tmp_path, queue, max_tries=2)


@pytest.fixture
def store(settings: JobSettings) -> Iterator[JobStore]:
    with open_store(settings) as store:
        yield store


def job(name: str, **values: object) -> Job:
    made = Job(name, "caller", "demo", JobOptions(crf=30), "digest", created=5.0, wake=10.0)
    return replace(made, **values)  # type: ignore[arg-type]


def test_a_record_comes_back_as_it_was(store: JobStore) -> None:
    kept = job("a", warnings=("one", "two"), webhook="https://example.org/", expected_frames=7)
    assert store.add(kept, 9, 9) == kept
    assert store.get("a") == kept
    assert store.get("b") is None
    assert store.all_ids() == {"a"}


def test_a_change_is_made_only_of_the_present_record(store: JobStore) -> None:
    old = store.add(job("a"), 9, 9)
    new = replace(old, status="running", wake=20.0)
    assert store.swap(old, new)
    assert not store.swap(old, replace(old, status="done"))
    assert not store.remove(old)
    assert store.get("a") == new
    assert store.remove(new)
    assert store.get("a") is None
    assert store.due(1e12, 9) == []


def test_one_of_many_claims_a_job(store: JobStore) -> None:
    store.add(job("a"), 9, 9)
    won: list[int] = []

    def claim(number: int) -> None:
        def change(job: Job) -> Job | None:
            return (
                replace(job, status="running", worker=str(number)) if job.worker is None else None
            )

        if update(store, "a", change) is not None:
            won.append(number)

    threads = [threading.Thread(target=claim, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = store.get("a")
    assert kept is not None
    assert [kept.worker] == [str(n) for n in won]


def test_a_key_is_one_job_of_a_caller(store: JobStore) -> None:
    first = store.add(job("a", key="k"), 9, 9)
    assert store.add(job("b", key="k"), 9, 9) == first
    assert store.add(job("c", key="k", caller="other"), 9, 9).id == "c"
    assert store.get("b") is None
    store.swap(first, replace(first, status="deleted"))
    assert store.add(job("d", key="k"), 9, 9).id == "d"


def test_open_jobs_are_bounded(store: JobStore) -> None:
    store.add(job("a", created=3.0), 9, 1)
    with pytest.raises(TooManyJobs) as refused:
        store.add(job("b"), 9, 1)
    assert refused.value.caller
    store.add(job("c", caller="other"), 9, 1)
    with pytest.raises(TooManyJobs) as refused:
        store.add(job("d", caller="third"), 2, 1)
    assert not refused.value.caller
    assert store.open_jobs() == {"waiting": (2, 3.0), "running": (0, None)}
    update(store, "a", lambda job: replace(job, status="done"))
    store.add(job("e"), 9, 1)


def test_what_is_due_comes_in_order(store: JobStore) -> None:
    for name, wake in (("b", 2.0), ("a", 1.0), ("c", 30.0)):
        store.add(job(name, wake=wake), 9, 9)
    assert store.due(10.0, 9) == ["a", "b"]
    assert store.due(10.0, 1) == ["a"]
    update(store, "a", lambda job: replace(job, status="failed", expires=50.0, webhook_due=7.0))
    assert store.due(10.0, 9) == ["b", "a"]
    update(store, "a", lambda job: replace(job, webhook_due=None))
    assert store.due(10.0, 9) == ["b"]


def test_counters(store: JobStore) -> None:
    assert store.counters() == {}
    store.count("done")
    store.count("frames", 40)
    store.count("frames", 2)
    assert store.counters() == {"done": 1, "frames": 42}


def sweep_of(settings: JobSettings, store: JobStore) -> tuple[Sweep, JobQueue, JobFiles]:
    queue, files = JobQueue(settings), JobFiles(settings)
    return Sweep(settings, store, files, queue), queue, files


def test_a_lost_message_is_queued_again(settings: JobSettings, store: JobStore) -> None:
    sweep, queue, _ = sweep_of(settings, store)
    store.add(job("lost"), 9, 9)
    store.add(job("queued"), 9, 9)
    queue.add("queued")
    sweep.once()
    assert [str(task.args[0]) for task in queue.renders.pending()] == ["queued", "lost"]
    sweep.once()  # neither is due by now
    assert queue.renders.pending_count() == 2


def test_an_expired_lease_and_a_job_that_kills_its_workers(
    settings: JobSettings, store: JobStore
) -> None:
    sweep, queue, _ = sweep_of(settings, store)
    store.add(job("a", status="running", worker="dead", tries=1), 9, 9)
    store.add(job("b", status="running", worker="dead", tries=2, webhook="http://x/"), 9, 9)
    sweep.once()
    first, second = store.get("a"), store.get("b")
    assert first is not None
    assert (first.status, first.worker) == ("waiting", None)
    assert queue.pending() == {"a"}
    assert second is not None
    assert second.status == "failed"
    assert "2 workers died" in str(second.error)
    assert second.webhook_status == "pending"


def test_expired_jobs_and_orphans_are_deleted(settings: JobSettings, store: JobStore) -> None:
    sweep, _, files = sweep_of(settings, store)
    for name in ("old", "kept", "orphan"):
        upload = settings.root / "upload"
        upload.write_bytes(b"audio")
        files.put_audio(name, upload)
    store.add(job("old", status="done", expires=1.0), 9, 9)
    store.add(job("kept", status="done", expires=1e12), 9, 9)
    sweep.once()
    assert store.all_ids() == {"kept"}
    assert files.all_ids() == {"kept", "orphan"}
    sweep.remove_orphans()
    assert "orphan" in files.all_ids()  # it may be an upload whose record comes next
    sweep.remove_orphans()
    assert files.all_ids() == {"kept"}


def test_the_chunks_of_earlier_attempts_are_taken_over(tmp_path: Path) -> None:
    files = JobFiles(JobSettings(tmp_path))
    (tmp_path / "upload").write_bytes(b"audio")
    files.put_audio("a", tmp_path / "upload")
    audio, first = files.begin("a", 1)
    assert audio.read_bytes() == b"audio"
    (first / ".video.mp4.chunks").mkdir()
    (first / ".video.mp4.chunks/1.response").write_bytes(b"frames")
    _, second = files.begin("a", 2)
    assert [str(p.relative_to(second)) for p in second.rglob("*.*")] == ["chunks/1.response"]
    assert not first.exists()


def test_settings_reach_a_worker_as_they_are(tmp_path: Path) -> None:
    jobs = JobSettings(tmp_path, "redis://h:1/0", url_hosts=("a", "b"), networks=("10.0.0.0/8",))
    settings = WorkerSettings(jobs, "grpc://h:1", "token", tmp_path / "ca.pem")
    assert WorkerSettings.from_json(settings.to_json()) == settings
    assert "token" not in repr(settings)
