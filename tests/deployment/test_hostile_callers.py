"""Hostile callers of every kind beside an honest one, which never fails; for 30 minutes under `make soak`."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from support import hostile_requests
from support.callers import Caller
from support.gateway import TOKENS, Gateway
from support.idle_connections import idle_connections
from support.load import Load, raw_load
from support.replicas import Replica, wait_until
from support.triton_calls import PROTOCOLS

LONG_S = float(os.environ.get("LIPSYNC_HOSTILE_SECONDS", "1800"))
GATEWAY_MB, REPLICA_MB = 512, 3072  # most resident memory


@pytest.mark.parametrize("seconds", [6.0, pytest.param(LONG_S, marks=pytest.mark.soak)])
@pytest.mark.timeout(LONG_S + 600)
def test_an_honest_caller_never_fails(
    gateway: Gateway,
    replicas: list[Replica],
    gateway_folder: Path,
    request_tensors: dict[str, NDArray[Any]],
    seconds: float,
) -> None:
    ca, stop = gateway_folder / "ca.pem", threading.Event()
    wait_until("both replicas are up", lambda: gateway.up() == 2)
    before = {process.pid for r in replicas for process in r.processes()}
    requests = list((hostile_requests.classification() | hostile_requests.other()).values())

    def post_hostile(caller: Caller) -> None:
        for request in requests:
            caller.post(request.path, request.body, request.headers)

    def send_large_headers(caller: Caller) -> None:
        caller.https("GET", "/v2/health/live", headers={"x-large": "x" * 100_000})

    def keep_busy(caller: Caller) -> None:
        for protocol in PROTOCOLS:
            caller.frames(protocol, "toy", request_tensors, "FRAMES")

    def repeat(act: Callable[[Caller], None]) -> None:
        caller = Caller(gateway.address, ca, TOKENS["hostile"])
        while not stop.is_set():
            with contextlib.suppress(Exception):  # refused: too many at once, or too many
                act(caller)
            stop.wait(0.05)
        caller.close()

    def serve(honest: Load, seconds: float, beside: str) -> None:
        begun, end = len(honest.seconds), time.monotonic() + seconds
        while time.monotonic() < end:
            honest.wait_for(2)
            assert not honest.failures
        p50, p95 = np.percentile(honest.seconds[begun:], [50, 95])
        print(f"{beside}: {len(honest.seconds) - begun} served, p50 {p50:.2f} s, p95 {p95:.2f} s")

    busy = [threading.Thread(target=repeat, args=(keep_busy,)) for _ in range(6)]
    hostile = [
        threading.Thread(target=repeat, args=(a,)) for a in (post_hostile, send_large_headers)
    ]
    threads = [*busy, *hostile]
    gateway_process = psutil.Process(gateway.pid)
    with raw_load(gateway, ca, request_tensors, threads=2) as honest:
        serve(honest, 0.1 * seconds, "alone")
        try:
            for thread in busy:
                thread.start()
            serve(honest, 0.3 * seconds, "beside a busy caller")
            with idle_connections(gateway.port, ["127.0.0.77"], 2000):
                for thread in hostile:
                    thread.start()
                serve(honest, 0.6 * seconds, "beside hostile ones too")
            workers = [gateway_process, *gateway_process.children(recursive=True)]
            gateway_mb = sum(p.memory_info().rss for p in workers) / 2**20
            replica_mb = max(replica.memory() for replica in replicas) / 2**20
        finally:
            stop.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
    print(f"gateway {gateway_mb:.0f} MB, replica {replica_mb:.0f} MB")
    assert not honest.failures
    assert {process.pid for r in replicas for process in r.processes()} == before
    assert gateway_mb < GATEWAY_MB
    assert replica_mb < REPLICA_MB
