"""Jobs over HTTP: uploads, waiting for their end, a receiver of webhooks, Redis and workers to be killed."""

from __future__ import annotations

import io
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import soundfile

from support.programs import program
from support.triton_calls import speech

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # made up for the tests


def wav(seconds: float, seed: int = 0) -> bytes:
    """Return speech as a WAV; another one for another seed."""
    file = io.BytesIO()
    wave = speech(seconds)
    wave[: seed + 1] = 0.01
    soundfile.write(file, wave, 16_000, format="WAV", subtype="PCM_16")
    return file.getvalue()


def finished(http: httpx.Client, location: str, timeout_s: float = 120) -> dict[str, Any]:
    """Return the state of a job that has ended."""
    deadline = time.monotonic() + timeout_s
    while True:
        job = dict(http.get(location).json())
        if job["status"] not in ("waiting", "running"):
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.05)


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 120) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@dataclass(frozen=True)
class Received:
    """A call of a webhook."""

    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """A server that receives webhooks and serves files.

    Attributes:
        calls: those received, in order.
        refuse: number of calls to answer with status 500 from now on.
        files: what GET answers by path: the body, or the URL to redirect to.
    """

    def __init__(self) -> None:
        self.calls: list[Received] = []
        self.refuse = 0
        self.files: dict[str, bytes | str] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.calls.append(Received(self.path, headers, body))
                refused, outer.refuse = outer.refuse > 0, max(0, outer.refuse - 1)
                self.send_response(500 if refused else 204)
                self.end_headers()

            def do_GET(self) -> None:
                found = outer.files.get(self.path)
                self.send_response(404 if found is None else 302 if isinstance(found, str) else 200)
                if isinstance(found, str):
                    self.send_header("location", found)
                self.end_headers()
                if isinstance(found, bytes):
                    self.wfile.write(found)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://localhost:{self._server.server_address[1]}"

    def __enter__(self) -> Receiver:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class RedisServer:
    """A Redis that may be killed and started again; it keeps each change on disk before it answers.

    Args:
        folder: of its files; it is created.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._command = [
            program("redis-server"), "--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(folder),
            "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--logfile", "log",
        ]  # fmt: skip
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def start(self) -> None:
        """Start it and wait until it answers."""
        import redis

        self._process = subprocess.Popen(self._command)
        client = redis.Redis.from_url(self.url)

        def answers() -> bool:
            assert self._process.poll() is None, "Redis ended"
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

        wait_until(answers, "Redis does not answer")
        client.close()

    def restart(self) -> None:
        """Kill it and start it again."""
        self._process.kill()
        self._process.wait()
        self.start()


def workers(folder: Path) -> list[psutil.Process]:
    """Return the worker processes that the service of a folder has started."""
    found = []
    for child in psutil.Process().children():
        try:
            if child.cmdline()[-2:] == ["lipsync_web.jobs.worker", str(folder)]:
                found.append(child)
        except psutil.Error:
            continue
    return found
