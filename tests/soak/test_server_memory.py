"""tritonserver's own memory does not grow with the requests that it has served."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import soundfile

from lipsync_client import LipSyncClient, RenderOptions
from lipsync_embedded import Server
from support.triton_calls import Triton, processes, slice_request, speech

AVATARS = ("toy", "wide")
OUTPUTS = ("FRAMES", "FRAMES", "I420", "JPEG", "H264")
COUNTS = (1, 4, 8, 16, 32)
CALLERS = 4


def own_memory(server: Server) -> float:
    """Return the memory that only tritonserver itself holds, without its Python processes, in MB."""
    found = [psutil.Process(pid) for pid in processes(server)]
    (main,) = [process for process in found if process.name() == "tritonserver"]
    return float(main.memory_full_info().uss) / 2**20


@pytest.mark.parametrize(
    "count", [20, pytest.param(5000, marks=[pytest.mark.soak, pytest.mark.timeout(7200)])]
)
def test_memory_does_not_grow_with_the_requests(
    second_server: Server, tmp_path: Path, count: int
) -> None:
    """A response has up to 88 MB of raw frames; with tritonserver's defaults it kept 1.5 GB."""
    choices = random.Random(5)
    clients = [Triton(second_server, "grpc") for _ in range(CALLERS)]
    audio, clip = speech(3.0), tmp_path / "clip.wav"
    soundfile.write(clip, audio, 16_000)

    def request(number: int) -> None:
        if number % 500 == 0:
            print(f"after {number} requests: {own_memory(second_server):.0f} MB", flush=True)
        if number % 20 == 19:
            with LipSyncClient(second_server.grpc_url) as client:
                options = RenderOptions(output="FRAMES", timeout_s=250)
                for _ in client.stream(clip, "wide", options):
                    pass
            return
        tensors = Triton.tensors(**slice_request(audio, 0, choices.choice(COUNTS)))
        output = choices.choice(OUTPUTS)
        clients[number % CALLERS].infer(choices.choice(AVATARS), tensors, [output])

    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(request, range(count)))
    assert own_memory(second_server) < 300
