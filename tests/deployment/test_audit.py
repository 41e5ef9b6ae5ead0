"""scripts/audit checks every version that the images hold, and fails on a finding.

The advisories are made up, so the tests say nothing about the state of the versions.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from support.replicas import ROOT

LOCKS = [
    "requirements.txt",
    "requirements.cpu.txt",
    "requirements.client.txt",
    "requirements.web.txt",
]
Version = tuple[str, str]


class Advisories:
    """A server with OSV's interface on loopback.

    Attributes:
        requested: names and versions that were looked up.
        vulnerable: those with a vulnerability.
    """

    def __init__(self) -> None:
        self.requested: set[Version] = set()
        self.vulnerable: set[Version] = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                version = request["package"]["name"], request["version"]
                outer.requested.add(version)
                body = json.dumps(
                    {"vulns": [advisory(*version)]} if version in outer.vulnerable else {}
                )
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        def advisory(name: str, version: str) -> dict[str, object]:
            affected = {"package": {"name": name, "ecosystem": "PyPI"}, "versions": [version]}
            return {"id": "TEST-2026-1", "summary": "made up", "affected": [affected]}

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1/query"
        threading.Thread(target=self.server.serve_forever).start()


@pytest.fixture
def advisories() -> Iterator[Advisories]:
    running = Advisories()
    yield running
    running.server.shutdown()
    running.server.server_close()


def audit(advisories: Advisories, cache: Path) -> subprocess.CompletedProcess[str]:
    options = ["-s", "osv", "--osv-url", advisories.url, "--cache-dir", str(cache)]
    command = [str(ROOT / "scripts/audit"), str(Path(sys.executable).parent), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.soak
def test_every_locked_version_is_looked_up(advisories: Advisories, tmp_path: Path) -> None:
    done = audit(advisories, tmp_path)
    assert done.returncode == 0, done.stderr
    locked = set()
    for name in LOCKS:
        text = (ROOT / "docker" / name).read_text()
        pins = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", text, re.MULTILINE)
        assert len(pins) > 20, name
        locked |= set(pins)
    assert locked <= advisories.requested
    environment = {name for name, _ in advisories.requested - locked}
    assert {"pytest", "nvidia-pytriton"} <= environment | {name for name, _ in locked}
    assert "lipsync-triton" not in environment


def test_a_finding_fails(advisories: Advisories, tmp_path: Path) -> None:
    text = (ROOT / "docker/requirements.cpu.txt").read_text()
    advisories.vulnerable.add(("aiohttp", re.findall(r"^aiohttp==(\S+)", text, re.MULTILINE)[0]))
    done = audit(advisories, tmp_path)
    assert done.returncode == 1
    assert "TEST-2026-1" in done.stdout
