"""Requests that carry a trace of their own, and the spans that come of them."""

from __future__ import annotations

import secrets
import time

import numpy as np

from support.callers import Caller
from support.collector import Collector
from support.triton_calls import speech


def trace_header() -> tuple[str, dict[str, str]]:
    """Return the id of a new trace, and the header that hands it to a server."""
    trace = secrets.token_hex(16)
    return trace, {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}


def is_traced(caller: Caller, collector: Collector) -> bool:
    """Return whether the spans of a request that carries a trace reach the collector."""
    trace, header = trace_header()
    tensors = {"AUDIO": speech(1.5), "FRAME_COUNT": np.array([2], np.int64)}
    assert caller.frames("http", "toy", tensors, "JPEG", header).shape == (2, 1)
    deadline = time.monotonic() + 2  # spans are sent every 0.2 s
    while time.monotonic() < deadline and not collector.trace(trace):
        time.sleep(0.1)
    return bool(collector.trace(trace))
