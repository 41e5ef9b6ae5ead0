"""Readiness of every model of a Triton, and the probe behind every health check of this folder.

When the process of a Python model is dead, Triton (2.51) goes on saying that the server is ready, and that
the model is; only its requests fail. So each model of the repository index is asked by name, and the
processes are looked at: a stub that died stays behind as a zombie of tritonserver's.

    models_ready.py            exit code 0 if all are ready, 1 if not; says which
    models_ready.py --serve    GET /ready: 200 or 503; GET /alive: the same, but draining is alive;
                               GET /metrics: for Prometheus

Only the standard library, and Python 3.10: it runs in Triton's image. The environment:

    TRITON_HTTP            http://127.0.0.1:8000
    TRITON_ADMIN_KEY_FILE  file with the key of Triton's administrative protocols, or none
    TRITON_DRAIN_FILE      while this file exists, nothing is ready: balancers send the work elsewhere
    TRITON_PID             only stubs that descend from this process; by default all of this container
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
STUB = "triton_python_b"  # what Linux keeps of triton_python_backend_stub
FRESH_S = 0.5  # an answer this young serves again: many balancers ask, Triton is asked once


class Stubs:
    """The processes of Python models.

    Args:
        ancestor: only those that descend from this process; None for all that are to be seen.
        proc: the process file system.
    """

    def __init__(self, ancestor: int | None = None, proc: Path = Path("/proc")) -> None:
        self._ancestor, self._proc = ancestor, proc
        self._models: dict[
            int, str
        ] = {}  # by process, while it lived: a zombie has no command line

    def dead(self) -> list[str]:
        """Models with a dead process; a model whose process was never seen alive has no name here."""
        parents: dict[int, int] = {}
        stubs: dict[int, str] = {}
        for folder in self._proc.glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError):  # it ended while being looked at
                name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
                state, parent = rest.split()[:2]
                parents[int(folder.name)] = int(parent)
                if name == STUB:
                    stubs[int(folder.name)] = state
        dead = []
        for pid, state in stubs.items():
            if self._ancestor is not None and not self._descends(pid, parents):
                continue
            if state in "ZX":
                dead.append(self._models.get(pid, "a Python model"))
            elif pid not in self._models:
                with contextlib.suppress(OSError, IndexError):
                    # argv[8] is the instance: MODEL_GROUP_NUMBER
                    argument = (self._proc / str(pid) / "cmdline").read_text().split("\0")[8]
                    self._models[pid] = argument.rsplit("_", 2)[0]
        self._models = {pid: name for pid, name in self._models.items() if pid in stubs}
        return dead

    def _descends(self, pid: int, parents: dict[int, int]) -> bool:
        while pid and pid != self._ancestor:
            pid = parents.get(pid, 0)
        return pid == self._ancestor


class Triton:
    """The models of one server.

    Args:
        url: http://HOST:PORT.
        key: key of the model-repository protocol, or "".
        drain_file: while it exists, the server counts as not ready.
        stubs: the processes of its Python models.
    """

    def __init__(
        self, url: str, key: str = "", drain_file: Path | None = None, stubs: Stubs | None = None
    ) -> None:
        self._stubs = stubs or Stubs()
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
            return ready | dict.fromkeys(self._stubs.dead(), False)
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
    pid = os.environ.get("TRITON_PID")
    triton = Triton(
        os.environ.get("TRITON_HTTP", "http://127.0.0.1:8000"),
        Path(key_file).read_text().strip() if key_file else "",
        Path(drain_file) if drain_file else None,
        Stubs(int(pid) if pid else None),
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
