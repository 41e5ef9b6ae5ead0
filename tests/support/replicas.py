"""Replicas on loopback: embedded servers, each with the readiness probe of docker/triton beside it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from lipsync_embedded import Server

from .servers import end_server

ROOT = Path(__file__).parents[2]
ADMIN_KEY = "0123456789abcdef0123456789abcdef"
CLOSED = "model-repository,shared-memory,statistics,trace,logging"
ADMIN_ARGS = [
    f"--http-restricted-api={CLOSED}:lipsync-admin-key={ADMIN_KEY}",
    f"--grpc-restricted-protocol={CLOSED}:lipsync-admin-key={ADMIN_KEY}",
]


def trace_arguments(url: str) -> list[str]:
    """Return tritonserver's arguments to trace only the requests that carry a trace of their own."""
    settings = ["mode=opentelemetry", f"opentelemetry,url={url}", "level=TIMESTAMPS", "rate=0"]
    settings.append(
        "opentelemetry,bsp_schedule_delay=200"
    )  # ms from the end of a step to its export
    return [f"--trace-config={setting}" for setting in settings]


def free_port(*hosts: str) -> int:
    """Return a port that is free on every one of the addresses."""
    while True:
        with contextlib.ExitStack() as sockets:
            first = sockets.enter_context(socket.socket())
            first.bind((hosts[0], 0))
            port = int(first.getsockname()[1])
            try:
                for host in hosts[1:]:
                    sockets.enter_context(socket.socket()).bind((host, port))
            except OSError:
                continue
            return port


def wait_until(what: str, condition: Callable[[], object], timeout_s: float = 90) -> None:
    """Wait until a condition holds; fail after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.1)


def status(url: str) -> int:
    """Return the HTTP status of a GET; 0 without a response."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as e:
        return e.code
    except OSError:
        return 0


class Replica:
    """An embedded server and its readiness probe, as in a container of docker/."""

    def __init__(
        self, repository: Path, host: str, ports: dict[str, int], scratch: Path, traces_url: str
    ) -> None:
        self.host, self.ports, self._traces_url = host, ports, traces_url
        self.drain_file = scratch / f"drain-{host}"
        key_file = scratch / "admin_key"
        key_file.write_text(ADMIN_KEY + "\n")
        self._repository, self._key_file = repository, key_file
        self.server: Server | None = None
        self._probe: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start the server and its probe."""
        self.drain_file.unlink(missing_ok=True)
        self.server = Server(
            self._repository,
            host=self.host,
            http_port=self.ports["http"],
            grpc_port=self.ports["grpc"],
            metrics_port=self.ports["metrics"],
            extra_args=[*ADMIN_ARGS, *trace_arguments(self._traces_url)],
        )
        self.server.start()
        self._probe = subprocess.Popen(
            [sys.executable, str(ROOT / "docker/triton/models_ready.py"), "--serve"],
            env=os.environ
            | {
                "TRITON_HTTP": f"http://{self.host}:{self.ports['http']}",
                "TRITON_PID": str(self.server.pid),
                "TRITON_ADMIN_KEY_FILE": str(self._key_file),
                "TRITON_DRAIN_FILE": str(self.drain_file),
                "MODELS_READY_BIND": f"{self.host}:{self.ports['ready']}",
            },
        )

    def restore(self) -> None:
        """Bring the replica to the state that the next test expects: not drained, all processes running."""
        self.drain_file.unlink(missing_ok=True)
        broken = (psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED)
        running = self.server is not None and self.server.poll() is None and self._probe is not None
        if not running or any(process.status() in broken for process in self.processes()):
            if running:
                self.kill()  # a stopped process does not react to a request to end
            self.stop()
            self.start()

    def hang(self) -> psutil.Process:
        """Stop the tritonserver process until it gets SIGCONT, and return it.

        The processes of its Python models must go on: tritonserver 2.51.0 takes a stopped one for
        unhealthy as soon as it checks, fails the requests of that model and dies.
        """
        (triton,) = [p for p in self.processes() if p.name() == "tritonserver"]
        triton.send_signal(signal.SIGSTOP)
        return triton

    def processes(self) -> list[psutil.Process]:
        """Return all processes of the server."""
        assert self.server is not None
        children: list[psutil.Process] = psutil.Process(self.server.pid).children(recursive=True)
        return children

    def kill(self) -> None:
        """End every process with SIGKILL, as the kernel does when memory runs out."""
        for process in self.processes():
            process.kill()
        self.stop()

    def drain(self) -> None:
        """Refuse new work and finish the work in flight, as Kubernetes' preStop does."""
        self.drain_file.touch()

    def stop(self) -> None:
        """Stop the server and its probe."""
        if self.server is not None:
            self.server.stop()
            self.server = None
        if self._probe is not None:
            self._probe.terminate()
            self._probe.wait()
            self._probe = None

    def end(self) -> None:
        """End the server at once, and its probe."""
        if self.server is not None:
            end_server(self.server)
        self.stop()

    def kill_model(self, model: str) -> None:
        """End the process of a Python model."""
        (stub,) = [p for p in self.processes() if f"{model}_0_0" in p.cmdline()]
        stub.kill()

    def memory(self) -> int:
        """Return the resident bytes of all processes of the server."""
        return sum(process.memory_info().rss for process in self.processes())


@contextlib.contextmanager
def two_replicas(repository: Path, scratch: Path, traces_url: str) -> Iterator[list[Replica]]:
    """Run two replicas on two loopback addresses with the same ports."""
    hosts = ["127.0.0.2", "127.0.0.3"]
    ports = {name: free_port(*hosts) for name in ("http", "grpc", "metrics", "ready")}
    with contextlib.ExitStack() as stack:
        replicas = []
        for host in hosts:
            replicas.append(Replica(repository, host, ports, scratch, traces_url))
            stack.callback(replicas[-1].end)
        yield replicas
