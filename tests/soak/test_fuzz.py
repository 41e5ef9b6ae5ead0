"""Thousands of requests made by chance: no crash, no hang, and a good request right after them is as ever."""

from __future__ import annotations

import time
from collections import Counter

import psutil
import pytest

from lipsync_embedded import Server
from support.fuzz import Fuzzer
from support.triton_calls import Triton, processes, speech

SEED = 20
EVERY = 50  # requests, then a good one


def memory_mb(server: Server) -> float:
    found = (psutil.Process(pid).memory_full_info().uss for pid in processes(server))
    return float(sum(found) / 2**20)


@pytest.mark.parametrize(
    "requests", [100, pytest.param(3000, marks=[pytest.mark.soak, pytest.mark.timeout(5400)])]
)
def test_any_request(server: Server, requests: int) -> None:
    triton, wave = Triton(server, "grpc"), speech(0.4)
    good = triton.frames("toy", wave, "JPEG").tolist()
    before = processes(server)
    answers: Counter[str] = Counter()
    slowest, first = (0.0, ""), 0.0
    fuzzer = Fuzzer(server, SEED)
    try:
        for number in range(1, requests + 1):
            begun = time.monotonic()
            said = fuzzer.send()
            answers[said] += 1
            slowest = max(slowest, (time.monotonic() - begun, said))
            if number % EVERY == 0:
                assert processes(server) == before, f"by request {number} of seed {SEED}"
                assert triton.frames("toy", wave, "JPEG").tolist() == good, number
            if number == requests // 4:
                first = memory_mb(server)
    finally:
        fuzzer.close()
    last = memory_mb(server)
    print(f"{dict(answers.most_common())}\nslowest {slowest}, {first:.0f} -> {last:.0f} MB")
    assert last <= 1.2 * first
    assert len(answers) >= 8  # not all of one kind
    good_ones = answers["answered"] + answers["HTTP 200"] + answers["answered within a stream"]
    assert good_ones >= requests / 50  # and some were nothing to complain of
