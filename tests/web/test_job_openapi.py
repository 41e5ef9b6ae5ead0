"""The OpenAPI document is valid and says what the service does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from openapi_spec_validator import validate

from lipsync_web import WebSettings
from lipsync_web._openapi import document
from support.jobs import finished, wav

BIN = Path(sys.executable).parent


def test_the_document_is_valid() -> None:
    validate(document(WebSettings()))
    closed = document(WebSettings(token="secret"))
    assert closed["security"] == [{"token": []}]
    assert "secret" not in str(closed)


@pytest.mark.server
def test_every_path_of_the_document_is_there(web: str) -> None:
    with httpx.Client(base_url=web, timeout=60) as http:
        served = http.get("/openapi.json").json()
        for path, operations in served["paths"].items():
            wrong = http.patch(path.format(id="x", avatar="toy"))
            assert wrong.status_code == 405, path
            assert {m.upper() for m in operations} <= set(wrong.headers["allow"].split(", ")) | {
                "DELETE"  # a route of its own beside GET
            }
        page = http.get("/api")
        assert page.status_code == 200
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "http" not in page.text.replace("http-equiv", "").lower().replace("http api", "")


@pytest.mark.server
def test_a_job_has_the_fields_of_the_document(web: str) -> None:
    job = document(WebSettings())["components"]["schemas"]["Job"]
    with httpx.Client(base_url=web, timeout=60) as http:
        added = http.post("/v1/jobs", params={"avatar": "toy"}, content=wav(1.0))
        assert set(added.json()) == set(job["properties"])
        assert set(finished(http, added.headers["location"])) == set(job["properties"])


def fuzzed(web: str, folder: Path, examples: int) -> None:
    """Run schemathesis, which makes requests from the document, wrong ones too.

    It is told the names of an avatar and of a job, which it would never guess.
    """
    with httpx.Client(base_url=web, timeout=60) as http:
        served = http.get("/openapi.json").json()
        job = http.post("/v1/jobs", params={"avatar": "toy"}, content=wav(1.0)).json()
        finished(http, f"/v1/jobs/{job['id']}")
    names = served["components"]["parameters"]
    names["id"]["schema"] = {"type": "string", "enum": [job["id"], "nothing"]}
    names["avatar"]["schema"] = {"type": "string", "enum": ["toy", "nobody"]}
    served["paths"]["/v1/jobs"]["post"]["parameters"][0]["schema"] = names["avatar"]["schema"]
    (folder / "openapi.json").write_text(json.dumps(served))
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = [
        str(BIN / "schemathesis"), "run", "openapi.json", "--url", web, "--checks", checks, "--seed", "16",
        "--max-examples", str(examples), "--phases", "examples,coverage,fuzzing", "--mode", "all",
        "--generation-database", "none", "--suppress-health-check", "all", "--request-timeout", "60",
        "--warnings", "off", "--no-color",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=3000)
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.server
def test_no_request_makes_the_service_fail(web: str, tmp_path: Path) -> None:
    fuzzed(web, tmp_path, examples=5)


@pytest.mark.soak
@pytest.mark.server
@pytest.mark.timeout(3600)
def test_many_requests_do_not_make_the_service_fail(web: str, tmp_path: Path) -> None:
    fuzzed(web, tmp_path, examples=300)
