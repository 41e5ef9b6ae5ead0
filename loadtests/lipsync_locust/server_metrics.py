"""Triton's counters before and after a run: queue, computation and batch size of each model."""

from __future__ import annotations

import urllib.request
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

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
    """The load of a model between two readings; times are means per request, in milliseconds.

    Attributes:
        inferences: elements of all batches; for a generator, frames.
        mean_batch: inferences per execution; None if the model was not executed.
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


def parse(text: str) -> Counters:
    """Return the counters in a text of Prometheus's format, summed over versions and reasons."""
    counters: Counters = defaultdict(lambda: dict.fromkeys(_COUNTERS.values(), 0.0))
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            # The parser strips or adds "_total", depending on the type that the server declares.
            short = _COUNTERS.get(sample.name.removesuffix("_total"))
            if short and "model" in sample.labels:
                counters[sample.labels["model"]][short] += sample.value
    return dict(counters)


def read(urls: Sequence[str]) -> Counters:
    """Return the counters of all replicas together.

    Raises:
        OSError: a replica does not respond.
        ValueError: a response is not in Prometheus's format.
    """
    together: Counters = {}
    for url in urls:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:
            counters = parse(response.read().decode())
        for model, values in counters.items():
            sums = together.setdefault(model, dict.fromkeys(values, 0.0))
            for name, value in values.items():
                sums[name] += value
    return together


def difference(before: Counters, after: Counters) -> list[ModelLoad]:
    """Return the loads of the models that had requests in between, by name.

    Raises:
        ValueError: a counter decreased, so the server was restarted in between.
    """
    loads = []
    for model, now in sorted(after.items()):
        old = before.get(model, dict.fromkeys(now, 0.0))
        delta = {name: now[name] - old[name] for name in now}
        if min(delta.values()) < 0:
            raise ValueError(f"the counters of {model} decreased: the server was restarted")
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
