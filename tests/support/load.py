"""Honest callers beside a test: they request the same frames over and over, and count what they get."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lipsync_client import LipSyncClient, RenderOptions
from support.callers import Caller
from support.gateway import TOKENS, Gateway
from support.replicas import wait_until
from support.triton_calls import PROTOCOLS

SERVED = "served"
Call = Callable[[], object]


class Load:
    """Threads that make calls until they are stopped.

    Args:
        connect: makes the call of one thread from its protocol; it is called again after a failure.
        expected: the result of a correct call.
        threads: number of threads; the protocols take turns.

    Attributes:
        seconds: how long each correct result took.
        failures: other results, and how often each came.
    """

    def __init__(
        self, connect: Callable[[str], tuple[Call, Call]], expected: object, threads: int = 4
    ) -> None:
        self.seconds: list[float] = []
        self.failures: Counter[str] = Counter()
        self._stop = threading.Event()
        self._connect, self._expected = connect, expected
        self._threads = [
            threading.Thread(target=self._run, args=(PROTOCOLS[n % 2],)) for n in range(threads)
        ]

    @property
    def served(self) -> int:
        """Number of correct results so far."""
        return len(self.seconds)

    def _run(self, protocol: str) -> None:
        call, close = self._connect(protocol)
        while not self._stop.is_set():
            begun = time.monotonic()
            try:
                if call() == self._expected:
                    self.seconds.append(time.monotonic() - begun)
                else:
                    self.failures[f"{protocol}: other frames"] += 1
            except Exception as e:
                self.failures[f"{protocol}: {type(e).__name__} {e}"] += 1
        close()

    def wait_for(self, number: int) -> None:
        """Wait for this many more correct results, or for a failure."""
        goal, failed = self.served + number, self.failures.total()
        wait_until(
            f"{number} more correct results",
            lambda: self.served >= goal or self.failures.total() > failed,
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


def raw_load(
    gateway: Gateway, ca: Path, tensors: dict[str, NDArray[Any]], threads: int = 4
) -> Load:
    """Return callers that send each request once, with raw calls of Triton's own clients."""

    def frames(caller: Caller, protocol: str) -> list[bytes]:
        found = caller.frames(protocol, "toy", tensors, "JPEG")
        return [bytes(jpeg) for jpeg in np.ravel(found)]

    def connect(protocol: str) -> tuple[Call, Call]:
        caller = Caller(gateway.address, ca, TOKENS["honest"])
        return lambda: frames(caller, protocol), caller.close

    first = Caller(gateway.address, ca, TOKENS["honest"])
    expected = frames(first, "grpc")
    first.close()
    return Load(connect, expected, threads)


def client_load(gateway: Gateway, ca: Path, clip: Path, threads: int = 4) -> Load:
    """Return callers that render a clip with the client, which sends failed requests again."""

    def frames(client: LipSyncClient) -> list[bytes]:
        chunks = client.render(clip, "toy", RenderOptions(output="JPEG"))
        return [bytes(frame) for chunk in chunks for frame in chunk.frames]

    def connect(protocol: str) -> tuple[Call, Call]:
        scheme = "grpcs" if protocol == "grpc" else "https"
        client = LipSyncClient(
            f"{scheme}://{gateway.address}",
            token=TOKENS["honest"],
            ca_file=ca,
            reconnect_timeout_s=30.0,
        )
        client.__enter__()
        return lambda: frames(client), lambda: client.__exit__(None, None, None)

    call, close = connect("grpc")
    expected = call()
    close()
    return Load(connect, expected, threads)
