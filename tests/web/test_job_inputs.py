"""Mistakes of callers get a status of theirs and a sentence."""

from __future__ import annotations

import io
from typing import Any

import httpx
import pytest
import soundfile

from lipsync_client import InputError
from lipsync_web.jobs.options import parse_options
from support.jobs import Receiver, wav
from support.triton_calls import speech

AVATAR = {"avatar": "toy"}
WAV = {"content-type": "audio/wav"}


def flac(seconds: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, speech(seconds), 16_000, format="FLAC")
    return file.getvalue()


def silent(seconds: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, speech(0.1)[:0], 16_000, format="WAV", subtype="PCM_16")
    return file.getvalue() if not seconds else wav(seconds)


UPLOADS = {
    "no avatar": ({}, wav(1.0), {}, 400, "Name the avatar"),
    "an unknown avatar": ({"avatar": "nobody"}, wav(1.0), {}, 404, "nobody"),
    "an empty file": (AVATAR, b"", WAV, 400, "empty"),
    "a file without samples": (AVATAR, silent(0), WAV, 400, "empty"),
    "text": (AVATAR, b"no audio at all\n" * 50, WAV, 400, "audio or video file"),
    "a truncated FLAC": (AVATAR, flac(4.0)[:-5000], {}, 400, "cannot be decoded"),
    "a truncated header": (AVATAR, wav(1.0)[:20], WAV, 400, "audio"),
    "too large": (AVATAR, b"\0" * (5 << 20), {}, 413, "4 MiB"),
    "too long": (AVATAR, flac(21.0), {}, 413, "20 s"),
    "a text's content type": (AVATAR, b"hello", {"content-type": "text/plain"}, 415, "text/plain"),
    "an unknown option": ({**AVATAR, "colour": "red"}, wav(1.0), {}, 400, "colour"),
    "a wrong option": ({**AVATAR, "crf": "99"}, wav(1.0), {}, 400, "crf"),
    "a wrong track": ({**AVATAR, "track": "3"}, wav(1.0), {}, 400, "track"),
    "an option of another format": ({**AVATAR, "width": "99"}, wav(1.0), {}, 400, "gif"),
    "a key that is none": (AVATAR, wav(1.0), {"idempotency-key": "a b"}, 400, "Idempotency-Key"),
    "a webhook that is no URL": ({**AVATAR, "webhook": "ftp://x"}, wav(1.0), {}, 400, "http://"),
}


@pytest.mark.server
@pytest.mark.parametrize("name", UPLOADS)
def test_an_upload_that_cannot_be_used(web: str, name: str) -> None:
    params, body, headers, status, words = UPLOADS[name]
    with httpx.Client(base_url=web, timeout=60) as http:
        response = http.post("/v1/jobs", params=params, content=body, headers=headers)
    explained(response, status, words)


FORMS: dict[str, tuple[dict[str, Any], int, str]] = {
    "no file": ({"data": AVATAR, "files": {"other": ("a.wav", wav(1.0))}}, 400, "'audio'"),
    "an empty file": ({"data": AVATAR, "files": {"audio": ("a.wav", b"")}}, 400, "empty"),
    "two files": ({"data": AVATAR, "files": [("audio", b"1"), ("audio", b"2")]}, 400, "files"),
    "too large": (
        {"data": AVATAR, "files": {"audio": ("a.wav", b"\0" * (5 << 20))}}, 413, "4 MiB",
    ),
    "no form": (
        {"content": b"text", "headers": {"content-type": "multipart/form-data"}}, 400, "boundary",
    ),
    "JSON that is none": (
        {"content": b"{", "headers": {"content-type": "application/json"}}, 400, "JSON",
    ),
    "a list": ({"json": [1]}, 400, "object"),
    "JSON without a URL": ({"json": AVATAR}, 400, "audio_url"),
    "a wrong type": (
        {"json": {**AVATAR, "audio_url": "http://localhost/", "crf": 3.5}}, 422, "localhost",
    ),
}  # fmt: skip


@pytest.mark.server
@pytest.mark.parametrize("name", FORMS)
def test_a_body_that_cannot_be_used(web: str, name: str) -> None:
    request, status, words = FORMS[name]
    with httpx.Client(base_url=web, timeout=60) as http:
        explained(http.post("/v1/jobs", **request), status, words)


@pytest.mark.server
def test_urls_that_are_not_fetched(web: str, receiver: Receiver) -> None:
    receiver.files |= {
        "/elsewhere": "http://example.com/speech.wav",
        "/inside": "http://169.254.169.254/latest/meta-data",
        "/circle": "/circle",
        "/text": b"no audio",
    }
    cases = {
        "http://example.com/speech.wav": "list of hosts",
        "http://127.0.0.1/speech.wav": "list of hosts",
        "file:///etc/passwd": "must begin with",
        "http://user:secret@localhost/": "password",
        f"{receiver.url}/nothing": "404",
        f"{receiver.url}/elsewhere": "list of hosts",
        f"{receiver.url}/inside": "list of hosts",
        f"{receiver.url}/circle": "redirected more than",
        "http://localhost:1/speech.wav": "cannot be fetched",
    }
    with httpx.Client(base_url=web, timeout=60) as http:
        for url, words in cases.items():
            response = http.post("/v1/jobs", json={**AVATAR, "audio_url": url})
            explained(response, 422, words)
        text = http.post("/v1/jobs", json={**AVATAR, "audio_url": f"{receiver.url}/text"})
        explained(text, 400, "audio or video file")


@pytest.mark.server
def test_a_job_that_does_not_exist(web: str) -> None:
    with httpx.Client(base_url=web, timeout=60) as http:
        for path in ("", "/events", "/video"):
            explained(http.get(f"/v1/jobs/nothing{path}"), 404, "no such job")
        explained(http.delete("/v1/jobs/nothing"), 404, "no such job")
        explained(http.put("/v1/jobs"), 405, "Method Not Allowed")


def explained(response: httpx.Response, status: int, words: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert words in problem["detail"], problem
    assert "/tmp" not in problem["detail"]


@pytest.mark.parametrize(
    "values",
    [
        {"crf": True}, {"crf": "1e3"}, {"crf": float("nan")}, {"crf": float("inf")}, {"crf": [1]},
        {"keyint": 0},
        {"strict": "yes"}, {"fps": "nan", "format": "gif"}, {"fps": 26, "format": "gif"},
        {"format": "png"}, {"format": None}, {"preset": "placebo"}, {"audio_mode": "aac", "format": "webm"},
        {"crf": 60}, {"preset": "fast", "format": "webm"}, {"track": 0},
    ],
    ids=str,
)  # fmt: skip
def test_options_that_cannot_be_used(values: dict[str, object]) -> None:
    with pytest.raises(InputError):
        parse_options(values)
