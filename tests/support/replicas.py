"""Two embedded servers behind the real gateway, on loopback: what the tests of this folder share."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
from dnslib import QTYPE, RR, A
from dnslib.server import BaseResolver, DNSLogger, DNSServer

from lipsync_embedded import Server

from .programs import program

ROOT = Path(__file__).parents[2]
TOKENS = {"anna": "token-of-anna", "busy": "token-of-busy", "narrow": "token-of-narrow"}
ADMIN_KEY = "0123456789abcdef0123456789abcdef"
CLOSED = "model-repository,shared-memory,statistics,trace,logging"
ADMIN_ARGS = [
    f"--http-restricted-api={CLOSED}:lipsync-admin-key={ADMIN_KEY}",
    f"--grpc-restricted-protocol={CLOSED}:lipsync-admin-key={ADMIN_KEY}",
]
NAME = "triton.test"


def traced_to(url: str) -> list[str]:
    """tritonserver's arguments for traces of the requests that bring one, and of no other."""
    settings = ["mode=opentelemetry", f"opentelemetry,url={url}", "level=TIMESTAMPS", "rate=0"]
    settings.append("opentelemetry,bsp_schedule_delay=200")  # ms from a step's end to its export
    return [f"--trace-config={setting}" for setting in settings]


def free_port(*hosts: str) -> int:
    """A port that is free on every one of the addresses."""
    while True:
        with contextlib.ExitStack() as held:
            first = held.enter_context(socket.socket())
            first.bind((hosts[0], 0))
            port = int(first.getsockname()[1])
            try:
                for host in hosts[1:]:
                    held.enter_context(socket.socket()).bind((host, port))
            except OSError:
                continue
            return port


def wait_until(what: str, condition: object, timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.1)


def status(url: str) -> int:
    """HTTP status; 0 if nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
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
        self.drain_file.unlink(missing_ok=True)
        self.server = Server(
            self._repository,
            host=self.host,
            http_port=self.ports["http"],
            grpc_port=self.ports["grpc"],
            metrics_port=self.ports["metrics"],
            extra_args=[*ADMIN_ARGS, *traced_to(self._traces_url)],
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
        """As the next test must find it: not drained, started anew if a process is gone or stopped."""
        self.drain_file.unlink(missing_ok=True)
        lost = (psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED)
        whole = self.server is not None and self.server.poll() is None and self._probe is not None
        if not whole or any(process.status() in lost for process in self.processes()):
            if whole:
                self.kill()  # one that is stopped would not hear a request to end
            self.stop()
            self.start()

    def hang(self) -> psutil.Process:
        """tritonserver stops where it is, until it gets SIGCONT.

        Its Python models' processes must go on: one that was stopped too counts as unhealthy the moment
        tritonserver looks first, and tritonserver 2.51.0 then fails its requests and dies.
        """
        (triton,) = [p for p in self.processes() if p.name() == "tritonserver"]
        triton.send_signal(signal.SIGSTOP)
        return triton

    def processes(self) -> list[psutil.Process]:
        assert self.server is not None
        return psutil.Process(self.server.pid).children(recursive=True)

    def kill(self) -> None:
        """As the kernel would: without a word."""
        for process in self.processes():
            process.kill()
        self.stop()

    def drain(self) -> None:
        """What preStop does: no new work, that at hand goes on."""
        self.drain_file.touch()

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop()
            self.server = None
        if self._probe is not None:
            self._probe.terminate()
            self._probe.wait()
            self._probe = None

    def kill_model(self, model: str) -> None:
        """End the process of a Python model."""
        (stub,) = [p for p in self.processes() if f"{model}_0_0" in p.cmdline()]
        stub.kill()

    def ready(self) -> bool:
        return status(f"http://{self.host}:{self.ports['ready']}/ready") == 200


class Names(BaseResolver):
    """The replicas' addresses behind one name, as a headless Service or Docker's DNS gives them."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses

    def resolve(self, request, handler):  # type: ignore[no-untyped-def]  # noqa: ARG002
        reply = request.reply()
        if request.q.qname == NAME and request.q.qtype == QTYPE.A:
            for address in self.addresses:
                reply.add_answer(RR(NAME, QTYPE.A, ttl=1, rdata=A(address)))
        return reply


class Gateway:
    """docker/gateway, on a free port.

    Args:
        folder: with server.pem, ca.pem, admin_key; the callers' map is written here.
        replicas: those behind it; all on the same ports.
        callers: token by name of caller.
        rates, concurrencies: limits by caller.
        client_ca: with it, callers need a certificate too.
        tracing: callers may have their requests traced.
    """

    def __init__(
        self,
        folder: Path,
        replicas: list[Replica],
        callers: dict[str, str],
        rates: dict[str, int] | None = None,
        concurrencies: dict[str, int] | None = None,
        client_ca: Path | None = None,
        max_body: int | None = None,
        tracing: bool = False,
    ) -> None:
        haproxy = program("haproxy")
        folder.mkdir(exist_ok=True)
        self.port, self.stats_port = free_port("127.0.0.1"), free_port("127.0.0.1")
        dns_port = free_port("127.0.0.1")
        self.names = Names([r.host for r in replicas])
        self._dns = DNSServer(
            self.names, address="127.0.0.1", port=dns_port, logger=DNSLogger(logf=lambda _: None)
        )
        self._dns.start_thread()
        hashes = {hashlib.sha256(t.encode()).hexdigest(): name for name, t in callers.items()}
        for file, table in (
            ("callers", hashes),
            ("rate", rates or {}),
            ("concurrency", concurrencies or {}),
        ):
            (folder / f"{file}.map").write_text("".join(f"{k} {v}\n" for k, v in table.items()))
        ports = replicas[0].ports
        environment = {
            "PATH": f"{Path(haproxy).parent}:{os.environ['PATH']}",
            "GATEWAY_BIND": f"127.0.0.1:{self.port}",
            "GATEWAY_STATS_BIND": f"127.0.0.1:{self.stats_port}",
            "GATEWAY_DNS": f"127.0.0.1:{dns_port}",
            "GATEWAY_CERT": str(folder.parent / "server.pem"),
            "GATEWAY_CALLERS": str(folder / "callers.map"),
            "GATEWAY_LIMITS": str(folder),
            "TRITON_ADMIN_KEY_FILE": str(folder.parent / "admin_key"),
            "TRITON_HOST": NAME,
            "TRITON_HTTP_PORT": str(ports["http"]),
            "TRITON_GRPC_PORT": str(ports["grpc"]),
            "TRITON_READY_PORT": str(ports["ready"]),
        }
        if client_ca is not None:
            environment["GATEWAY_CLIENT_CA"] = str(client_ca)
        if tracing:
            environment["GATEWAY_TRACING"] = "1"
        if max_body is not None:
            environment["GATEWAY_MAX_BODY"] = str(max_body)
        self.log_file = folder / "haproxy.log"
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [str(ROOT / "docker/gateway/start")], env=environment, stdout=log, stderr=log
            )
        wait_until("the gateway listens", lambda: status(self.stats_url + "/alive") == 200, 20)

    @property
    def stats_url(self) -> str:
        return f"http://127.0.0.1:{self.stats_port}"

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def up(self) -> int:
        """Replicas that passed the gateway's last check, for gRPC."""
        with urllib.request.urlopen(self.stats_url + "/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        checks = 'haproxy_server_check_status{proxy="triton_grpc",server="grpc'
        return sum(x.startswith(checks) and 'state="L7OK"} 1' in x for x in lines)

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        self._dns.stop()
        self._dns.server.server_close()


@contextlib.contextmanager
def two_replicas(repository: Path, scratch: Path, traces_url: str) -> Iterator[list[Replica]]:
    hosts = ["127.0.0.2", "127.0.0.3"]
    ports = {name: free_port(*hosts) for name in ("http", "grpc", "metrics", "ready")}
    with contextlib.ExitStack() as stack:
        replicas = []
        for host in hosts:
            replicas.append(Replica(repository, host, ports, scratch, traces_url))
            stack.callback(replicas[-1].stop)
        yield replicas
