"""Replicas that die, drain and come back under load: no caller notices."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from callers import Caller
from conftest import TOKENS
from replicas import Gateway, Replica, status, wait_until
from service.triton import PROTOCOLS, Triton, slice_request, speech

pytestmark = pytest.mark.soak  # minutes of restarts and of waiting for health checks


class Load:
    """Callers that ask for the same frames again and again, over both protocols.

    Attributes:
        answers: number of right answers.
        failures: what else came, and how often.
    """

    def __init__(self, address: str, ca: Path, tensors: dict[str, np.ndarray], right: np.ndarray):
        self.answers = 0
        self.failures: Counter[str] = Counter()
        self._stop = threading.Event()
        self._work = (address, ca, tensors, right)
        self._threads = [
            threading.Thread(target=self._run, args=(protocol,)) for protocol in PROTOCOLS * 2
        ]

    def _run(self, protocol: str) -> None:
        address, ca, tensors, right = self._work
        caller = Caller(address, ca, TOKENS["anna"])
        while not self._stop.is_set():
            try:
                frames = caller.frames(protocol, "toy", tensors, "JPEG")
                if np.array_equal(frames, right):
                    self.answers += 1
                else:
                    self.failures[f"{protocol}: other frames"] += 1
            except Exception as e:
                self.failures[f"{protocol}: {type(e).__name__} {e}"] += 1
        caller.close()

    def more(self, number: int) -> None:
        """Wait for so many answers from now on, or for a failure."""
        goal, failed = self.answers + number, self.failures.total()
        wait_until(
            f"{number} more answers",
            lambda: self.answers >= goal or self.failures.total() > failed,
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
    wait_until("both replicas are in", lambda: gateway.up() == 2)
    tensors = Triton.tensors(**slice_request(speech(1.5), 8, 4))
    assert replicas[0].server is not None
    right = Triton(replicas[0].server, "grpc").infer("toy", tensors, ["JPEG"])["JPEG"]
    with Load(gateway.address, gateway_folder / "ca.pem", tensors, right) as running:
        yield running
    for replica in replicas:
        replica.drain_file.unlink(missing_ok=True)
        if replica.server is None:
            replica.start()


def test_a_replica_that_is_killed_fails_no_request(
    load: Load, gateway: Gateway, replicas: list[Replica]
) -> None:
    load.more(8)
    replicas[0].kill()
    wait_until("the gateway leaves it out", lambda: gateway.up() == 1)
    load.more(8)
    replicas[0].start()
    wait_until("it is back", lambda: gateway.up() == 2)
    load.more(8)
    assert not load.failures


def test_a_rolling_restart_fails_no_request(
    load: Load, gateway: Gateway, replicas: list[Replica]
) -> None:
    """As preStop does it: not ready first, stopped when the gateway has noticed."""
    for replica in replicas:
        load.more(6)
        replica.drain()
        wait_until("the gateway leaves it out", lambda: gateway.up() == 1)
        time.sleep(1)  # what it was given before ends
        replica.stop()
        load.more(6)
        replica.start()
        wait_until("it is back", lambda: gateway.up() == 2)
    load.more(6)
    assert not load.failures


def test_a_replica_that_hangs_is_left_out(
    load: Load, gateway: Gateway, replicas: list[Replica]
) -> None:
    """Requests it holds wait until it goes on; new ones pass it by."""
    load.more(6)
    stopped = replicas[0].processes()
    for process in stopped:
        process.send_signal(signal.SIGSTOP)
    try:
        wait_until("the gateway leaves it out", lambda: gateway.up() == 1)
    finally:
        for process in stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
    wait_until("it is back", lambda: gateway.up() == 2)
    load.more(6)
    assert not load.failures


def test_a_dead_model_takes_its_replica_out(
    load: Load, gateway: Gateway, replicas: list[Replica]
) -> None:
    """Triton itself goes on calling itself, and the model, ready."""
    load.more(6)
    replicas[0].kill_model("toy_compositor")
    wait_until("the gateway leaves it out", lambda: gateway.up() == 1)
    http = f"http://{replicas[0].host}:{replicas[0].ports['http']}"
    assert status(f"{http}/v2/health/ready") == 200
    assert status(f"{http}/v2/models/toy_compositor/ready") == 200
    time.sleep(5)  # what it was given before ends
    known = Counter(load.failures)
    load.more(6)
    assert load.failures == known
    # HTTP's were sent again by the gateway; an error in gRPC's trailers it cannot see.
    for failure in known:
        assert failure.startswith("grpc: ")
        assert "'toy_compositor_0_0' is not healthy" in failure
    replicas[0].stop()
