"""Renders over HTTP: an upload becomes an MP4."""

from __future__ import annotations

import io
import time

import av
import httpx
import numpy as np
import pytest
import soundfile

from support.triton_calls import speech

pytestmark = pytest.mark.server


def wav(seconds: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, speech(seconds), 16_000, format="WAV", subtype="PCM_16")
    return file.getvalue()


def finished(http: httpx.Client, location: str) -> dict[str, object]:
    deadline = time.monotonic() + 120
    while True:
        job = dict(http.get(location).json())
        if job["status"] not in ("waiting", "running"):
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.05)


def test_an_upload_becomes_a_video(web: str) -> None:
    with httpx.Client(base_url=web, timeout=60) as http:
        added = http.post("/v1/jobs", params={"avatar": "toy"}, content=wav(2.0))
        assert added.status_code == 202
        location = added.headers["location"]
        job = finished(http, location)
        assert job["status"] == "done"
        assert job["frames"] == job["expected_frames"]
        video = http.get(f"{location}/video")
        with av.open(io.BytesIO(video.content)) as container:
            frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
        assert np.array(frames).shape == (job["frames"], 240, 320, 3)
        part = http.get(f"{location}/video", headers={"range": "bytes=10-19"})
        assert part.status_code == 206
        assert part.content == video.content[10:20]
        assert http.delete(location).status_code == 204
        assert http.get(location).status_code == 404


def test_mistakes_get_a_sentence(web: str) -> None:
    with httpx.Client(base_url=web, timeout=60) as http:
        cases = [
            ({}, wav(1.0), 400, "Name the avatar"),
            ({"avatar": "nobody"}, wav(1.0), 404, "nobody"),
            ({"avatar": "toy"}, b"", 400, "empty"),
            ({"avatar": "toy"}, b"\0" * (5 << 20), 413, "4 MiB"),
        ]
        for params, body, status, words in cases:
            response = http.post("/v1/jobs", params=params, content=body)
            assert response.status_code == status, response.text
            assert words in response.json()["detail"]
        added = http.post("/v1/jobs", params={"avatar": "toy"}, content=b"no audio at all")
        job = finished(http, added.headers["location"])
        assert job["status"] == "failed"
        assert "audio or video file" in str(job["error"])
        assert http.get(f"{added.headers['location']}/video").status_code == 409


def test_renders_are_bounded_and_can_be_cancelled(web: str) -> None:
    with httpx.Client(base_url=web, timeout=60) as http:
        body = wav(19.0)
        added = [http.post("/v1/jobs", params={"avatar": "wide"}, content=body) for _ in range(4)]
        assert [r.status_code for r in added] == [202, 202, 202, 503]
        assert added[3].headers["retry-after"] == "30"
        for response in added[:3]:
            assert http.delete(response.headers["location"]).status_code == 204
        again = http.post("/v1/jobs", params={"avatar": "toy"}, content=wav(1.0))
        assert finished(http, again.headers["location"])["status"] == "done"
