"""Requests that carry a trace of their own, and the spans that come of them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Set

import numpy as np

from support.callers import Caller
from support.collector import Collector, Span
from support.triton_calls import speech


def trace_header() -> tuple[str, dict[str, str]]:
    """Return the id of a new trace, and the header that hands it to a server."""
    trace = secrets.token_hex(16)
    return trace, {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}


def is_traced(caller: Caller, collector: Collector) -> bool:
    """Return whether the spans of a request that carries a trace reach the collector.

    A batch that is lost on its way is not sent again (issue 4549 of opentelemetry-cpp), so a test that
    expects spans asks until they come.
    """
    trace, header = trace_header()
    tensors = {"AUDIO": speech(1.5), "FRAME_COUNT": np.array([2], np.int64)}
    assert caller.frames("http", "toy", tensors, "JPEG", header).shape == (2, 1)
    return bool(spans_of(collector, trace))


def spans_of(collector: Collector, trace: str, names: Set[str] = frozenset()) -> list[Span]:
    """Return the spans of a trace, waiting up to 5 s for spans of these names; none if they do not come."""
    deadline = time.monotonic() + 5  # they are sent every 0.2 s
    while True:
        spans = collector.trace(trace)
        if spans and names <= {span.name for span in spans}:
            return spans
        if time.monotonic() > deadline:
            return []
        time.sleep(0.1)
