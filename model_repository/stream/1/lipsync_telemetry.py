"""Telemetry of a Python model: counters for Prometheus, and a line of JSON for each refused request.

Each model's directory is self-contained, so each has a copy of this file; a test compares the copies.
On tritonserver 2.51.0, several models and instances may create a family of the same name and share it;
metrics with the same labels are one number. Kind and description must be equal too, so all families of the
service are listed in FAMILIES. Unloading one model does not affect the others. An addition takes 17
microseconds, and a request for frames makes four. Triton logs a message as a JSON string, so a line is JSON
within JSON, and a caller's text cannot end it.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

import triton_python_backend_utils as pb_utils

# Histograms came with a later release: means are seconds over frames.
FAMILIES = {
    "lipsync_frames_total": ("COUNTER", "Frames in responses, by avatar and output."),
    "lipsync_stage_seconds_total": (
        "COUNTER",
        "Seconds spent in a stage of a Python model, summed over its instances.",
    ),
    "lipsync_refused_total": (
        "COUNTER",
        "Refused requests by reason; `internal` is a fault of the service, the others are the caller's.",
    ),
    "lipsync_streams_open": ("GAUGE", "Streams in flight."),
}
INTERNAL = "internal"
_LONGEST = 300  # characters of a message or an id in the log: a part of it comes from the caller


class Number:
    """One number on the metrics page; it does nothing on a server that was built without metrics."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric

    def add(self, value: float) -> None:
        if self._metric is not None:
            with contextlib.suppress(
                pb_utils.TritonModelException
            ):  # a metric must not fail a request
                self._metric.increment(value)

    def set(self, value: float) -> None:
        if self._metric is not None:
            with contextlib.suppress(pb_utils.TritonModelException):
                self._metric.set(value)


class Telemetry:
    """The counters and the log of one model.

    Args:
        model: its name.
        reasons: for which it may refuse a request; each counter exists from the start, because Prometheus
            sees no increase in a counter that appears.
    """

    def __init__(self, model: str, reasons: tuple[str, ...]) -> None:
        self._model = model
        self._families: dict[str, Any] = {}
        self._refused = {
            reason: self.number("lipsync_refused_total", model=model, reason=reason)
            for reason in (*reasons, INTERNAL)
        }

    def number(self, family: str, **labels: str) -> Number:
        """Return a number of one of the FAMILIES."""
        try:
            if family not in self._families:
                kind, text = FAMILIES[family]
                self._families[family] = pb_utils.MetricFamily(
                    name=family, description=text, kind=getattr(pb_utils.MetricFamily, kind)
                )
            return Number(self._families[family].Metric(labels=labels))
        except pb_utils.TritonModelException as e:
            pb_utils.Logger.log_warn(f"{self._model} counts no {family}: {e}")
            return Number(None)

    def refused(self, request: Any, reason: str, message: str) -> None:
        """Count and log a request that is answered with an error; the message holds no audio."""
        self._refused[reason].add(1)
        line = json.dumps(
            {
                "event": "refused",
                "request": request.request_id()[:_LONGEST],
                "model": self._model,
                "reason": reason,
                "message": message[:_LONGEST],
            }
        )
        log = pb_utils.Logger.log_error if reason == INTERNAL else pb_utils.Logger.log_warn
        log(line)
