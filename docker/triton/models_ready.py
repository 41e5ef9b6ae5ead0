"""Readiness of every model of a Triton, and the probe behind every health check of this folder.

Triton's own /v2/health/ready stays 200 when the process of a Python model is dead. So each model of the
repository index is asked by name.

    models_ready.py            exit code 0 if all are ready, 1 if not; says which
    models_ready.py --serve    GET /ready: 200 or 503; GET /alive: the same, but draining is alive;
                               GET /metrics: for Prometheus

Only the standard library, and Python 3.10: it runs in Triton's image. The environment:

    TRITON_HTTP            http://127.0.0.1:8000
    TRITON_ADMIN_KEY_FILE  file with the key of Triton's administrative protocols, or none
    TRITON_DRAIN_FILE      while this file exists, nothing is ready: balancers send the work elsewhere
    MODELS_READY_BIND      0.0.0.0:8003, with --serve
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, urlsplit

ADMIN_HEADER = "lipsync-admin-key"
TIMEOUT_S = 2.0
FRESH_S = 0.5  # an answer this young serves again: many balancers ask, Triton is asked once


class Triton:
    """The models of one server.

    Args:
        url: http://HOST:PORT.
        key: key of the model-repository protocol, or "".
        drain_file: while it exists, the server counts as not ready.
    """

    def __init__(self, url: str, key: str = "", drain_file: Path | None = None) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 8000)
        self._headers = {ADMIN_HEADER: key} if key else {}
        self._drain_file = drain_file
        self._lock = threading.Lock()
        self._known: dict[str, bool] = {}
        self._asked_at = float("-inf")

    def draining(self) -> bool:
        return self._drain_file is not None and self._drain_file.exists()

    def models(self) -> dict[str, bool]:
        """Readiness by model; no model at all if the server does not answer."""
        with self._lock:
            if time.monotonic() - self._asked_at > FRESH_S:
                try:
                    self._known = self._ask()
                except (OSError, http.client.HTTPException, ValueError):
                    self._known = {}
                self._asked_at = time.monotonic()
            return dict(self._known)

    def _ask(self) -> dict[str, bool]:
        connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT_S)
        try:
            connection.request("POST", "/v2/repository/index", "{}", self._headers)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise ValueError(f"repository index: {answer.status} {body[:200]!r}")
            ready = {}
            for entry in json.loads(body):
                # Unloaded on purpose is not a failure: Triton then says UNAVAILABLE, "unloaded".
                if entry.get("state") == "UNAVAILABLE" and entry.get("reason") == "unloaded":
                    continue
                if "state" not in entry:  # in the repository, never loaded
                    continue
                connection.request("GET", f"/v2/models/{quote(entry['name'], safe='')}/ready")
                answer = connection.getresponse()
                answer.read()
                ready[entry["name"]] = answer.status == 200
            return ready
        finally:
            connection.close()

    def verdict(self) -> tuple[bool, str]:
        """Whether work may be sent here, and a sentence."""
        return (False, "draining") if self.draining() else self.alive()

    def alive(self) -> tuple[bool, str]:
        """Whether every model is ready, and a sentence."""
        models = self.models()
        if not models:
            return False, "the server does not answer, or has no model"
        dead = sorted(name for name, ready in models.items() if not ready)
        if dead:
            return False, "not ready: " + ", ".join(dead)
        return True, f"{len(models)} models ready"

    def metrics(self) -> str:
        """Prometheus text."""
        lines = [
            "# HELP lipsync_model_ready Whether a model answers that it is ready.",
            "# TYPE lipsync_model_ready gauge",
        ]
        models = self.models()
        for name, ready in sorted(models.items()):
            label = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            lines.append(f'lipsync_model_ready{{model="{label}"}} {int(ready)}')
        lines += [
            "# HELP lipsync_server_answers Whether the server lists its models.",
            "# TYPE lipsync_server_answers gauge",
            f"lipsync_server_answers {int(bool(models))}",
            "# HELP lipsync_server_draining Whether the server is being drained.",
            "# TYPE lipsync_server_draining gauge",
            f"lipsync_server_draining {int(self.draining())}",
        ]
        return "\n".join(lines) + "\n"


def serve(triton: Triton, host: str, port: int) -> ThreadingHTTPServer:
    """An HTTP server of /ready, /alive and /metrics; the caller runs it."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 5  # seconds for a request to arrive

        def do_GET(self) -> None:
            if self.path in ("/ready", "/alive"):
                ready, why = triton.verdict() if self.path == "/ready" else triton.alive()
                self._answer(200 if ready else 503, why + "\n")
            elif self.path == "/metrics":
                self._answer(200, triton.metrics())
            else:
                self._answer(404, "nothing here\n")

        def _answer(self, status: int, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            with contextlib.suppress(ConnectionError):  # a check that has its status hangs up
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass  # a line every second for every balancer says nothing

    return ThreadingHTTPServer((host, port), Handler)


def main() -> int:
    parser = argparse.ArgumentParser(description="Ask every model of a Triton whether it is ready.")
    parser.add_argument("--serve", action="store_true", help="answer over HTTP until stopped")
    serving = parser.parse_args().serve
    key_file = os.environ.get("TRITON_ADMIN_KEY_FILE")
    drain_file = os.environ.get("TRITON_DRAIN_FILE")
    triton = Triton(
        os.environ.get("TRITON_HTTP", "http://127.0.0.1:8000"),
        Path(key_file).read_text().strip() if key_file else "",
        Path(drain_file) if drain_file else None,
    )
    if serving:
        host, _, port = os.environ.get("MODELS_READY_BIND", "0.0.0.0:8003").rpartition(":")
        with serve(triton, host, int(port)) as server:
            server.serve_forever()
    ready, why = triton.alive()
    print(why)
    return 0 if ready else 1


if __name__ == "__main__":
    sys.exit(main())
