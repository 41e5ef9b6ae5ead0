"""The real gateway: HAProxy with docker/gateway, started as its container starts it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from dnslib import QTYPE, RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSHandler, DNSLogger, DNSServer

from support.programs import program
from support.replicas import ROOT, Replica, free_port, status, wait_until

TOKENS = {
    "honest": "token-of-honest",
    "anna": "token-of-anna",
    "busy": "token-of-busy",
    "narrow": "token-of-narrow",
    "hostile": "token-of-hostile",
}
NAME = "triton.test"


class Names(BaseResolver):
    """The replicas' addresses behind one name, as a headless Service or Docker's DNS returns them."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:  # noqa: ARG002
        reply = request.reply()
        if request.q.qname == NAME and request.q.qtype == QTYPE.A:
            for address in self.addresses:
                reply.add_answer(RR(NAME, QTYPE.A, ttl=1, rdata=A(address)))
        return reply


class Gateway:
    """docker/gateway on a free port of loopback.

    Args:
        folder: a folder for the maps of callers and limits; its parent holds server.pem, ca.pem, admin_key.
        replicas: the replicas behind the gateway, all on the same ports.
        callers: token by name of caller.
        rates, concurrencies: limits by name of caller.
        client_ca: PEM file; with it, callers need a certificate too.
        settings: further environment variables of the gateway.
    """

    def __init__(
        self,
        folder: Path,
        replicas: list[Replica],
        callers: dict[str, str],
        rates: dict[str, int] | None = None,
        concurrencies: dict[str, int] | None = None,
        client_ca: Path | None = None,
        settings: dict[str, str] | None = None,
    ) -> None:
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
            "PATH": f"{Path(program('haproxy')).parent}:{os.environ['PATH']}",
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
            **(settings or {}),
        }
        if client_ca is not None:
            environment["GATEWAY_CLIENT_CA"] = str(client_ca)
        self.log_file = folder / "haproxy.log"
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [str(ROOT / "docker/gateway/start")], env=environment, stdout=log, stderr=log
            )
        wait_until("the gateway listens", lambda: status(self.stats_url + "/alive") == 200)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stats_url(self) -> str:
        return f"http://127.0.0.1:{self.stats_port}"

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def up(self) -> int:
        """Return the number of replicas that passed the gateway's last health check, for gRPC."""
        with urllib.request.urlopen(self.stats_url + "/metrics", timeout=5) as response:
            lines = response.read().decode().splitlines()
        checks = 'haproxy_server_check_status{proxy="triton_grpc",server="grpc'
        return sum(x.startswith(checks) and 'state="L7OK"} 1' in x for x in lines)

    def log(self) -> list[dict[str, Any]]:
        """Return the requests in the gateway's log."""
        lines = self.log_file.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith('{"time"')]

    def close(self) -> None:
        """Stop HAProxy and the name server."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        self._dns.stop()
        self._dns.server.server_close()
