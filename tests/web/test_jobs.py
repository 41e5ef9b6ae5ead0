"""Jobs over HTTP: an upload becomes a video."""

from __future__ import annotations

import io
import json
from typing import Any

import av
import httpx
import numpy as np
import pytest

from support.jobs import Receiver, finished, wait_until, wav

pytestmark = pytest.mark.server


def test_an_upload_becomes_a_video(web: str) -> None:
    with httpx.Client(base_url=web, timeout=60) as http:
        curls = {"content-type": "application/x-www-form-urlencoded"}
        added = http.post("/v1/jobs", params={"avatar": "toy"}, content=wav(2.0), headers=curls)
        assert added.status_code == 202
        location = added.headers["location"]
        assert location == f"/v1/jobs/{added.json()['id']}"
        job = finished(http, location)
        assert job["status"] == "done"
        assert job["frames"] == job["expected_frames"]
        assert job["progress"] == 1
        video = http.get(job["video"])
        assert len(video.content) == job["bytes"] == int(video.headers["content-length"])
        with av.open(io.BytesIO(video.content)) as container:
            frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
        assert np.array(frames).shape == (job["frames"], 240, 320, 3)
        assert http.delete(location).status_code == 204
        assert http.get(location).status_code == 404
        assert http.get(f"{location}/video").status_code == 404


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=10-19", slice(10, 20)),
        ("bytes=-7", slice(-7, None)),
        ("bytes=500-", slice(500, None)),
        ("bytes=0-99999999", slice(None)),
    ],
)
def test_a_part_of_the_video(web: str, asked: str, part: slice) -> None:
    with httpx.Client(base_url=web, timeout=60) as http:
        job = finished(http, add(http, wav(1.0), key="one video")["location"])
        whole = http.get(job["video"])
        etag = whole.headers["etag"]
        got = http.get(job["video"], headers={"range": asked, "if-range": etag})
        assert got.status_code == 206
        assert got.content == whole.content[part]
        size = len(whole.content)
        begin, end, _ = part.indices(size)
        assert got.headers["content-range"] == f"bytes {begin}-{end - 1}/{size}"
        stale = http.get(job["video"], headers={"range": asked, "if-range": '"old"'})
        assert (stale.status_code, stale.content) == (200, whole.content)
        outside = http.get(job["video"], headers={"range": f"bytes={size}-"})
        assert outside.status_code == 416
        assert outside.headers["content-range"] == f"bytes */{size}"


def test_a_form_and_its_options(web: str) -> None:
    with httpx.Client(base_url=web, timeout=60) as http:
        form = {"avatar": "toy", "format": "mkv", "crf": "35", "preset": "ultrafast"}
        added = http.post("/v1/jobs", data=form, files={"audio": ("speech.wav", wav(1.0))})
        assert added.status_code == 202, added.text
        job = finished(http, added.headers["location"])
        assert job["options"] == {"format": "mkv", "crf": 35, "preset": "ultrafast"}
        video = http.get(job["video"])
        assert video.headers["content-type"] == "video/x-matroska"
        assert video.headers["content-disposition"] == 'attachment; filename="toy.mkv"'
        with av.open(io.BytesIO(video.content)) as container:
            assert "matroska" in container.format.name
            assert sum(1 for _ in container.decode(video=0)) == job["frames"]


def test_audio_from_a_url(web: str, receiver: Receiver) -> None:
    receiver.files |= {"/speech.wav": wav(1.0), "/moved": f"{receiver.url}/speech.wav"}
    with httpx.Client(base_url=web, timeout=60) as http:
        for path in ("/speech.wav", "/moved"):
            body = {"avatar": "toy", "audio_url": receiver.url + path, "crf": 30}
            added = http.post("/v1/jobs", json=body)
            assert added.status_code == 202, added.text
            job = finished(http, added.headers["location"])
            assert (job["status"], job["options"]) == ("done", {"crf": 30})


def test_the_same_key_is_the_same_job(web: str) -> None:
    with httpx.Client(base_url=web, timeout=60) as http:
        first = add(http, wav(1.0, seed=1), key="4711")
        again = add(http, wav(1.0, seed=1), key="4711")
        assert again["id"] == first["id"]
        other = http.post(
            "/v1/jobs",
            params={"avatar": "toy"},
            content=wav(1.0, seed=2),
            headers={"idempotency-key": "4711"},
        )
        assert other.status_code == 422
        assert "Idempotency-Key" in other.json()["detail"]
        assert add(http, wav(1.0, seed=1), key="4712")["id"] != first["id"]
        finished(http, first["location"])
        assert http.delete(first["location"]).status_code == 204
        renewed = add(http, wav(1.0, seed=2), key="4711")
        assert renewed["id"] != first["id"]
        finished(http, renewed["location"])


def test_events_tell_the_progress(web: str) -> None:
    with httpx.Client(base_url=web, timeout=60) as http:
        job = add(http, wav(8.0))
        events: list[tuple[str, dict[str, Any]]] = []
        with http.stream("GET", f"{job['location']}/events") as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            name = ""
            for line in response.iter_lines():
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    events.append((name, json.loads(line.removeprefix("data: "))))
        assert [name == data["status"] for name, data in events] == [True] * len(events)
        assert events[-1][0] == "done"
        frames = [data["frames"] for _, data in events]
        assert frames == sorted(frames)
        assert events[-1][1] == finished(http, job["location"])


def test_a_deleted_job_ends_its_events_and_its_work(web: str) -> None:
    with httpx.Client(base_url=web, timeout=60) as http:
        job = add(http, wav(19.0), avatar="wide")
        wait_until(
            lambda: http.get(job["location"]).json()["frames"], "no frame came", timeout_s=120
        )
        with http.stream("GET", f"{job['location']}/events") as response:
            lines = response.iter_lines()
            next(lines)
            assert http.delete(job["location"]).status_code == 204
            assert "event: deleted" in list(lines)
        after = add(http, wav(1.0))  # the worker is free for it
        assert finished(http, after["location"])["status"] == "done"


def test_jobs_are_bounded_for_a_caller(web: str) -> None:
    with httpx.Client(base_url=web, timeout=60) as http:
        body = wav(19.0)
        sent = [http.post("/v1/jobs", params={"avatar": "wide"}, content=body) for _ in range(4)]
        assert [r.status_code for r in sent] == [202, 202, 202, 429]
        assert sent[3].headers["retry-after"] == "30"
        assert "3 jobs" in sent[3].json()["detail"]
        for response in sent[:3]:
            assert http.delete(response.headers["location"]).status_code == 204
        assert finished(http, add(http, wav(1.0))["location"])["status"] == "done"


def add(http: httpx.Client, body: bytes, key: str = "", avatar: str = "toy") -> dict[str, Any]:
    """Add a job and return it with its location."""
    headers = {"idempotency-key": key.replace(" ", "-")} if key else {}
    added = http.post("/v1/jobs", params={"avatar": avatar}, content=body, headers=headers)
    assert added.status_code == 202, added.text
    return {**added.json(), "location": added.headers["location"]}
