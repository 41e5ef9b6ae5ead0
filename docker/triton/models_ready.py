"""Readiness of every model of a Triton server; every health check of this folder uses it.

After the process of a Python model has died, Triton 2.51 still reports that the server and the model are
ready; only the model's requests fail. Therefore this probe requests the readiness of each model in the
repository index and looks at the processes: a dead stub process stays behind as a zombie of tritonserver.

    models_ready.py            exit code 0 if every model is ready, otherwise 1; prints the reason
    models_ready.py --serve    GET /ready: 200 or 503, or 404 while draining, for which HAProxy lets a server
                               finish its requests and sends it no more; GET /alive: 200 or 503, whether
                               draining or not; GET /metrics: for Prometheus

It needs only the standard library and Python 3.10, because it runs in Triton's image. The environment:

    TRITON_HTTP            URL of the server; http://127.0.0.1:8000 by default
    TRITON_ADMIN_KEY_FILE  file with the key of Triton's administrative protocols, if they have one
    TRITON_DRAIN_FILE      while this file exists the server is not ready, so that balancers send no more work
    TRITON_PID             look only at stubs that descend from this process; at all of them by default
    MODELS_READY_BIND      address for --serve; 0.0.0.0:8003 by default
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
STUB = "triton_python_b"  # the first 15 letters of triton_python_backend_stub, which is all Linux keeps
CACHE_S = 0.5  # several balancers probe at once; Triton gets one request


class Stubs:
    """The processes of Python models.

    Args:
        ancestor: look only at processes that descend from this one; None for all visible processes.
        proc: the process file system.
    """

    def __init__(self, ancestor: int | None = None, proc: Path = Path("/proc")) -> None:
        self._ancestor, self._proc = ancestor, proc
        # Models by process, noted while the process lives: a zombie has no command line.
        self._models: dict[int, str] = {}

    def dead(self) -> list[str]:
        """Return the models with a dead process; one that was never seen alive has a general name."""
        parents: dict[int, int] = {}
        stubs: dict[int, str] = {}
        for folder in self._proc.glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError):  # the process has ended in the meantime
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
        self._cached: dict[str, bool] = {}
        self._cached_at = float("-inf")

    def draining(self) -> bool:
        """Return whether the drain file exists."""
        return self._drain_file is not None and self._drain_file.exists()

    def models(self) -> dict[str, bool]:
        """Return the readiness of each model by name; nothing if the server does not respond."""
        with self._lock:
            if time.monotonic() - self._cached_at > CACHE_S:
                try:
                    self._cached = self._request_models()
                except (OSError, http.client.HTTPException, ValueError):
                    self._cached = {}
                self._cached_at = time.monotonic()
            return dict(self._cached)

    def _request_models(self) -> dict[str, bool]:
        connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT_S)
        try:
            connection.request("POST", "/v2/repository/index", "{}", self._headers)
            response = connection.getresponse()
            body = response.read()
            if response.status != 200:
                raise ValueError(f"repository index: {response.status} {body[:200]!r}")
            ready = {}
            for entry in json.loads(body):
                # A model that was unloaded on purpose is no failure: UNAVAILABLE, "unloaded".
                if entry.get("state") == "UNAVAILABLE" and entry.get("reason") == "unloaded":
                    continue
                if "state" not in entry:  # in the repository, but never loaded
                    continue
                connection.request("GET", f"/v2/models/{quote(entry['name'], safe='')}/ready")
                response = connection.getresponse()
                response.read()
                ready[entry["name"]] = response.status == 200
            return ready | dict.fromkeys(self._stubs.dead(), False)
        finally:
            connection.close()

    def alive(self) -> tuple[bool, str]:
        """Return whether every model is ready, and the reason."""
        models = self.models()
        if not models:
            return False, "the server does not respond, or has no model"
        not_ready = sorted(name for name, ready in models.items() if not ready)
        if not_ready:
            return False, "not ready: " + ", ".join(not_ready)
        return True, f"{len(models)} models ready"

    def metrics(self) -> str:
        """Return the same as Prometheus text."""
        lines = [
            "# HELP lipsync_model_ready Whether a model reports that it is ready and its processes live.",
            "# TYPE lipsync_model_ready gauge",
        ]
        models = self.models()
        for name, ready in sorted(models.items()):
            label = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            lines.append(f'lipsync_model_ready{{model="{label}"}} {int(ready)}')
        lines += [
            "# HELP lipsync_server_responds Whether the server lists its models.",
            "# TYPE lipsync_server_responds gauge",
            f"lipsync_server_responds {int(bool(models))}",
            "# HELP lipsync_server_draining Whether the drain file exists.",
            "# TYPE lipsync_server_draining gauge",
            f"lipsync_server_draining {int(self.draining())}",
        ]
        return "\n".join(lines) + "\n"


def make_server(triton: Triton, host: str, port: int) -> ThreadingHTTPServer:
    """Return an HTTP server of /ready, /alive and /metrics; call its `serve_forever`."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 5  # seconds for a request to arrive

        def do_GET(self) -> None:
            if self.path in ("/ready", "/alive"):
                ready, reason = triton.alive()
                if self.path == "/ready" and ready and triton.draining():
                    self._respond(404, "draining\n")
                else:
                    self._respond(200 if ready else 503, reason + "\n")
            elif self.path == "/metrics":
                self._respond(200, triton.metrics())
            else:
                self._respond(404, "not found\n")

        def _respond(self, status: int, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            # HAProxy closes the connection as soon as it has the status line.
            with contextlib.suppress(ConnectionError):
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass  # one line per second for each balancer would hide the others

    return ThreadingHTTPServer((host, port), Handler)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description="Check that every model of a Triton server is ready."
    )
    parser.add_argument(
        "--serve", action="store_true", help="serve the result over HTTP until stopped"
    )
    serve = parser.parse_args().serve
    key_file = os.environ.get("TRITON_ADMIN_KEY_FILE")
    drain_file = os.environ.get("TRITON_DRAIN_FILE")
    pid = os.environ.get("TRITON_PID")
    triton = Triton(
        os.environ.get("TRITON_HTTP", "http://127.0.0.1:8000"),
        Path(key_file).read_text().strip() if key_file else "",
        Path(drain_file) if drain_file else None,
        Stubs(int(pid) if pid else None),
    )
    if serve:
        host, _, port = os.environ.get("MODELS_READY_BIND", "0.0.0.0:8003").rpartition(":")
        with make_server(triton, host, int(port)) as server:
            server.serve_forever()
    ready, reason = triton.alive()
    print(reason)
    return 0 if ready else 1


if __name__ == "__main__":
    sys.exit(main())
