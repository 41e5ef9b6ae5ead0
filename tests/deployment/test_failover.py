"""Replicas that die, hang, drain and come back under load, without a failed render."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
from numpy.typing import NDArray

from support.gateway import TOKENS, Gateway
from support.load import Load, client_load, raw_load
from support.replicas import ROOT, Replica, status, wait_until
from support.triton_calls import speech

SECONDS = int(os.environ.get("LIPSYNC_ROLLING_SECONDS", "180"))  # of Locust's load


@pytest.fixture
def clients(
    gateway: Gateway,
    replicas: list[Replica],  # noqa: ARG001  they are restored afterwards
    gateway_folder: Path,
) -> Iterator[Load]:
    """Run clients that render a clip over and over."""
    wait_until("both replicas are up", lambda: gateway.up() == 2)
    clip = gateway_folder / "load.wav"
    soundfile.write(clip, speech(0.5), 16_000)
    with client_load(gateway, gateway_folder / "ca.pem", clip) as load:
        yield load


def test_a_killed_replica_fails_no_render(
    clients: Load, gateway: Gateway, replicas: list[Replica]
) -> None:
    """Its requests fail, because it may have died of one of them; the client sends its own again."""
    clients.wait_for(4)
    replicas[0].kill()
    wait_until("the gateway leaves it out", lambda: gateway.up() == 1)
    clients.wait_for(4)
    replicas[0].start()
    wait_until("the replica is back", lambda: gateway.up() == 2)
    clients.wait_for(4)
    assert not clients.failures


def test_a_hung_replica_fails_no_render(
    clients: Load, gateway: Gateway, replicas: list[Replica]
) -> None:
    """It loses its requests as soon as it fails its health check; the client sends them again."""
    clients.wait_for(4)
    hung = replicas[0].hang()
    try:
        wait_until("the gateway leaves it out", lambda: gateway.up() == 1)
        clients.wait_for(8)  # more than the callers had in flight
    finally:
        hung.send_signal(signal.SIGCONT)
    wait_until("the replica is back", lambda: gateway.up() == 2)
    clients.wait_for(4)
    assert not clients.failures


@pytest.mark.soak
def test_a_dead_model_takes_its_replica_out(
    clients: Load, gateway: Gateway, replicas: list[Replica]
) -> None:
    """Triton itself still reports that it and the model are ready."""
    clients.wait_for(4)
    replicas[0].kill_model("toy_compositor")
    wait_until("the gateway leaves it out", lambda: gateway.up() == 1)
    http = f"http://{replicas[0].host}:{replicas[0].ports['http']}"
    assert status(f"{http}/v2/health/ready") == 200
    assert status(f"{http}/v2/models/toy_compositor/ready") == 200
    clients.wait_for(8)
    assert not clients.failures
    replicas[0].stop()


def restart(replica: Replica, gateway: Gateway) -> None:
    """Restart a replica as a rollout does: preStop, stop, start."""
    replica.drain()
    wait_until("the gateway leaves it out", lambda: gateway.up() == 1)
    time.sleep(3)  # requests in flight end; Kubernetes' preStop waits 15 s
    replica.stop()
    replica.start()
    wait_until("the replica is back", lambda: gateway.up() == 2)


@pytest.mark.soak
def test_a_rolling_restart_fails_no_request(
    gateway: Gateway,
    replicas: list[Replica],
    gateway_folder: Path,
    request_tensors: dict[str, NDArray[Any]],
) -> None:
    """A draining replica finishes its requests, so each is sent once only."""
    wait_until("both replicas are up", lambda: gateway.up() == 2)
    with raw_load(gateway, gateway_folder / "ca.pem", request_tensors) as load:
        for replica in replicas:
            load.wait_for(6)
            restart(replica, gateway)
        load.wait_for(6)
    assert not load.failures


@pytest.mark.soak
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
                restart(replica, gateway)
            rounds += 1
            assert locust.poll() is None, "the load ended before the restarts: " + log.read_text()
        assert locust.wait(SECONDS + 120) == 0, log.read_text()
    finally:
        if locust.poll() is None:
            locust.kill()
            locust.wait()
    result = json.loads(figures.read_text())
    print(f"{rounds} rounds, {result['requests']} requests, {result['frames']} frames")
    assert result["failures"] == []
    assert {row["type"] for row in result["rows"] if row["succeeded"]} == {"gRPC", "HTTP"}
    assert result["requests"] > SECONDS / 2
