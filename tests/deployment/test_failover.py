"""Replicas that die, drain and come back under load, without a failed request."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.callers import Caller
from support.gateway import TOKENS, Gateway
from support.replicas import ROOT, Replica, status, wait_until
from support.triton_calls import PROTOCOLS, Triton, slice_request, speech

pytestmark = pytest.mark.soak  # minutes of restarts and of waiting for health checks
SECONDS = int(os.environ.get("LIPSYNC_ROLLING_SECONDS", "180"))  # of Locust's load


class Load:
    """Callers that request the same frames again and again, over both protocols.

    Attributes:
        responses: number of correct responses.
        failures: other results, and how often each came.
    """

    def __init__(
        self, address: str, ca: Path, tensors: dict[str, NDArray[Any]], expected: NDArray[Any]
    ):
        self.responses = 0
        self.failures: Counter[str] = Counter()
        self._stop = threading.Event()
        self._work = (address, ca, tensors, expected)
        self._threads = [
            threading.Thread(target=self._run, args=(protocol,)) for protocol in PROTOCOLS * 2
        ]

    def _run(self, protocol: str) -> None:
        address, ca, tensors, expected = self._work
        caller = Caller(address, ca, TOKENS["anna"])
        while not self._stop.is_set():
            try:
                frames = caller.frames(protocol, "toy", tensors, "JPEG")
                if np.array_equal(frames, expected):
                    self.responses += 1
                else:
                    self.failures[f"{protocol}: other frames"] += 1
            except Exception as e:
                self.failures[f"{protocol}: {type(e).__name__} {e}"] += 1
        caller.close()

    def wait_for(self, number: int) -> None:
        """Wait for this many more responses, or for a failure."""
        goal, failed = self.responses + number, self.failures.total()
        wait_until(
            f"{number} more responses",
            lambda: self.responses >= goal or self.failures.total() > failed,
            timeout_s=200,
        )

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def load(gateway: Gateway, replicas: list[Replica], gateway_folder: Path) -> Iterator[Load]:
    wait_until("both replicas are up", lambda: gateway.up() == 2)
    tensors = Triton.tensors(**slice_request(speech(1.5), 8, 4))
    assert replicas[0].server is not None
    expected = Triton(replicas[0].server, "grpc").infer("toy", tensors, ["JPEG"])["JPEG"]
    with Load(gateway.address, gateway_folder / "ca.pem", tensors, expected) as running:
        yield running


def test_a_replica_that_is_killed_fails_no_request(
    load: Load, gateway: Gateway, replicas: list[Replica]
) -> None:
    load.wait_for(8)
    replicas[0].kill()
    wait_until("the gateway leaves it out", lambda: gateway.up() == 1)
    load.wait_for(8)
    replicas[0].start()
    wait_until("the replica is back", lambda: gateway.up() == 2)
    load.wait_for(8)
    assert not load.failures


def test_a_rolling_restart_fails_no_request(
    load: Load, gateway: Gateway, replicas: list[Replica]
) -> None:
    """First not ready, and stopped after the gateway has noticed, as preStop does it."""
    for replica in replicas:
        load.wait_for(6)
        restarted(replica, gateway)
    load.wait_for(6)
    assert not load.failures


def test_a_replica_that_hangs_is_left_out(
    load: Load, gateway: Gateway, replicas: list[Replica]
) -> None:
    """Requests it holds wait until it goes on; new ones pass it by."""
    load.wait_for(6)
    hung = replicas[0].hang()
    try:
        wait_until("the gateway leaves it out", lambda: gateway.up() == 1)
        load.wait_for(4)
    finally:
        hung.send_signal(signal.SIGCONT)
    wait_until("the replica is back", lambda: gateway.up() == 2)
    load.wait_for(6)
    assert not load.failures


def test_a_dead_model_takes_its_replica_out(
    load: Load, gateway: Gateway, replicas: list[Replica]
) -> None:
    """Triton itself still reports that it and the model are ready."""
    load.wait_for(6)
    replicas[0].kill_model("toy_compositor")
    wait_until("the gateway leaves it out", lambda: gateway.up() == 1)
    http = f"http://{replicas[0].host}:{replicas[0].ports['http']}"
    assert status(f"{http}/v2/health/ready") == 200
    assert status(f"{http}/v2/models/toy_compositor/ready") == 200
    time.sleep(5)  # requests in flight end
    known = Counter(load.failures)
    load.wait_for(6)
    assert load.failures == known
    # HTTP's were sent again by the gateway; an error in gRPC's trailers it cannot see.
    for failure in known:
        assert failure.startswith("grpc: ")
        assert "'toy_compositor_0_0' is not healthy" in failure
    replicas[0].stop()


def restarted(replica: Replica, gateway: Gateway) -> None:
    """Restart a replica as a rollout does: preStop, stop, start."""
    replica.drain()
    wait_until("the gateway leaves it out", lambda: gateway.up() == 1)
    time.sleep(3)  # requests in flight end; Kubernetes' preStop waits 15 s
    replica.stop()
    replica.start()
    wait_until("the replica is back", lambda: gateway.up() == 2)


def test_a_rolling_restart_under_locust_fails_no_request(
    gateway: Gateway, replicas: list[Replica], gateway_folder: Path, tmp_path: Path
) -> None:
    """Run the project's own load test over both protocols, with TLS and token."""
    wait_until("both replicas are up", lambda: gateway.up() == 2)
    ca, log, figures = gateway_folder / "ca.pem", tmp_path / "log", tmp_path / "figures.json"
    metrics = ",".join(f"http://{r.host}:{r.ports['metrics']}/metrics" for r in replicas)
    command = [
        sys.executable, "-m", "locust", "-f", str(ROOT / "loadtests/locustfile.py"),
        "--headless", "--only-summary", "--users", "4", "--spawn-rate", "4",
        "--run-time", f"{SECONDS}s", "--stop-timeout", "60s",
        "--grpc-url", f"grpcs://{gateway.address}", "--http-url", f"https://{gateway.address}",
        "--metrics-url", metrics, "--header", f"authorization: Bearer {TOKENS['anna']}",
        "--avatar", "toy", "--short-seconds", "1", "--tags", "short",
        "--summary", str(figures), "--max-failure-ratio", "0", "GrpcClips", "HttpClips",
    ]  # fmt: skip
    trust = {"SSL_CERT_FILE": str(ca), "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(ca)}
    with log.open("w") as out:
        locust = subprocess.Popen(command, env=os.environ | trust, stdout=out, stderr=out)
    try:
        rounds = 0
        time.sleep(10)
        begun = time.monotonic()
        # Whole rounds only, while there is time for another one; one round in any case.
        while rounds == 0 or time.monotonic() - begun < (SECONDS - 20) * rounds / (rounds + 1):
            for replica in replicas:
                restarted(replica, gateway)
            rounds += 1
            assert locust.poll() is None, "the load ended before the restarts: " + log.read_text()
        assert locust.wait(SECONDS + 120) == 0, log.read_text()
    finally:
        if locust.poll() is None:
            locust.kill()
            locust.wait()
    result = json.loads(figures.read_text())
    print(f"{rounds} rounds, {result['requests']} requests, {result['frames']} frames")
    assert result["causes"] == []
    assert {row["type"] for row in result["rows"] if row["succeeded"]} == {"gRPC", "HTTP"}
    assert result["requests"] > SECONDS / 2
