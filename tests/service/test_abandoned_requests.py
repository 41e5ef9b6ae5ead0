"""Requests whose callers have gone: the stages that come to them later do not compute them."""

from __future__ import annotations

import asyncio
import queue
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from lipsync_client import AsyncLipSyncClient, Overloaded
from lipsync_client._transports.request import Request
from lipsync_embedded import Server
from support.triton_calls import (
    PROTOCOLS,
    Triton,
    frames_made,
    infer_inputs,
    slice_request,
    speech,
)

FRAMES = 32
REQUESTS = 12
Outcome: TypeAlias = "InferenceServerException | None"


class Burst:
    """Requests that are sent at once over gRPC.

    Attributes:
        calls: in the order of sending.
        outcomes: the error of each request, or None, in the order of the responses.
    """

    def __init__(
        self, client: tritonclient.grpc.InferenceServerClient, timeouts_us: list[int]
    ) -> None:
        tensors = Triton.tensors(**slice_request(speech(3.0), 8, FRAMES))
        inputs = infer_inputs(tritonclient.grpc, tensors)
        outputs = [tritonclient.grpc.InferRequestedOutput("JPEG")]
        self.outcomes: queue.Queue[Outcome] = queue.Queue()
        self.calls = [
            client.async_infer(
                "toy",
                inputs,
                lambda result, error: self.outcomes.put(error),  # noqa: ARG005
                outputs=outputs,
                timeout=timeout or None,
            )
            for timeout in timeouts_us
        ]


@pytest.fixture
def client(server: Server) -> Iterator[tritonclient.grpc.InferenceServerClient]:
    with tritonclient.grpc.InferenceServerClient(server.grpc_url.split("//")[1]) as connected:
        yield connected


def at_rest(count: Callable[[], float]) -> float:
    """Return a count of the server once it grows no more."""
    seen = -1.0
    while (now := count()) != seen:
        seen = now
        time.sleep(2.0)
    return now


def composed(server: Server) -> float:
    """Return the number of frames that the avatar's compositor has made."""
    with urllib.request.urlopen(server.metrics_url, timeout=10) as page:
        name = 'lipsync_frames_total{avatar="toy",output="JPEG"} '
        lines = page.read().decode().splitlines()
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def test_cancelled_requests_are_not_composed(
    server: Server, client: tritonclient.grpc.InferenceServerClient
) -> None:
    before = at_rest(lambda: composed(server))
    burst = Burst(client, [0] * REQUESTS)
    assert burst.outcomes.get(timeout=120) is None
    for call in burst.calls:
        call.cancel()
    outcomes = [burst.outcomes.get(timeout=120) for _ in range(REQUESTS - 1)]
    assert any(outcomes), "the requests were too quick to be cancelled"
    assert at_rest(lambda: composed(server)) - before < REQUESTS * FRAMES


def test_a_request_waits_in_a_queue_no_longer_than_its_timeout(
    server: Server, client: tritonclient.grpc.InferenceServerClient
) -> None:
    before = at_rest(lambda: frames_made(server, "toy_generator"))
    burst = Burst(client, [0] * 4 + [1] * REQUESTS)
    outcomes = [burst.outcomes.get(timeout=120) for _ in burst.calls]
    refused = [error for error in outcomes if error is not None]
    assert len(refused) > REQUESTS // 2
    assert all("Request timeout expired" in str(error) for error in refused)
    generated = at_rest(lambda: frames_made(server, "toy_generator")) - before
    assert generated == (len(burst.calls) - len(refused)) * FRAMES


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_request_that_must_not_wait_for_long_is_refused_and_not_sent_again(
    server: Server, protocol: str
) -> None:
    urls = {"grpc": server.grpc_url, "http": server.http_url}
    requests = [
        Request("toy", Triton.tensors(**slice_request(speech(3.0), 8, FRAMES)), "JPEG", queue_s=q)
        for q in [60.0] * 4 + [0.0] * REQUESTS
    ]

    async def send() -> list[object]:
        async with AsyncLipSyncClient(urls[protocol]) as client:
            backend = await client._open()
            calls = [backend.infer(request, 120.0) for request in requests]
            return await asyncio.gather(*calls, return_exceptions=True)

    before = at_rest(lambda: frames_made(server, "toy_generator"))
    outcomes = asyncio.run(send())
    refused = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert len(refused) > REQUESTS // 2
    assert all(isinstance(error, Overloaded) for error in refused), refused
    generated = at_rest(lambda: frames_made(server, "toy_generator")) - before
    assert generated == (len(requests) - len(refused)) * FRAMES
