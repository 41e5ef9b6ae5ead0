"""Triton's own counters before and after a run: queue, compute and batch size of every model."""

from __future__ import annotations

import urllib.request
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

_TIMEOUT_S = 5.0
_COUNTERS = {
    "nv_inference_request_success": "requests",
    "nv_inference_request_failure": "failures",
    "nv_inference_count": "inferences",
    "nv_inference_exec_count": "executions",
    "nv_inference_request_duration_us": "total_us",
    "nv_inference_queue_duration_us": "queue_us",
    "nv_inference_compute_input_duration_us": "input_us",
    "nv_inference_compute_infer_duration_us": "infer_us",
    "nv_inference_compute_output_duration_us": "output_us",
}
Counters = dict[str, dict[str, float]]  # model -> short name of _COUNTERS -> value


@dataclass(frozen=True)
class ModelLoad:
    """What a model did between two readings; times are means a request, in milliseconds.

    Attributes:
        inferences: elements of all batches; of a generator, frames.
        mean_batch: inferences an execution; None if it was not executed.
    """

    model: str
    requests: int
    failures: int
    inferences: int
    total_ms: float
    queue_ms: float
    input_ms: float
    infer_ms: float
    output_ms: float
    mean_batch: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def parse(text: str) -> Counters:
    """Counters of Prometheus's text format, summed over versions and reasons."""
    counters: Counters = defaultdict(lambda: dict.fromkeys(_COUNTERS.values(), 0.0))
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            # The parser strips or adds "_total" by the type that the server declares.
            short = _COUNTERS.get(sample.name.removesuffix("_total"))
            if short and "model" in sample.labels:
                counters[sample.labels["model"]][short] += sample.value
    return dict(counters)


def read(urls: Sequence[str]) -> Counters:
    """Counters of all replicas together.

    Raises:
        OSError: one does not answer.
        ValueError: what answers is not Prometheus's format.
    """
    together: Counters = {}
    for url in urls:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
            counters = parse(answer.read().decode())
        for model, values in counters.items():
            sums = together.setdefault(model, dict.fromkeys(values, 0.0))
            for name, value in values.items():
                sums[name] += value
    return together


def difference(before: Counters, after: Counters) -> list[ModelLoad]:
    """Models that had requests in between, by name.

    Raises:
        ValueError: a counter went backwards: the server was started anew in between.
    """
    loads = []
    for model, now in sorted(after.items()):
        then = before.get(model, dict.fromkeys(now, 0.0))
        delta = {name: now[name] - then[name] for name in now}
        if min(delta.values()) < 0:
            raise ValueError(f"the counters of {model} went backwards: the server was restarted")
        if not delta["requests"] and not delta["failures"]:
            continue
        each = {
            name.replace("_us", "_ms"): value / 1000 / max(delta["requests"], 1)
            for name, value in delta.items()
            if name.endswith("_us")
        }
        batch = delta["inferences"] / delta["executions"] if delta["executions"] else None
        loads.append(
            ModelLoad(
                model,
                int(delta["requests"]),
                int(delta["failures"]),
                int(delta["inferences"]),
                mean_batch=batch,
                **each,
            )
        )
    return loads
