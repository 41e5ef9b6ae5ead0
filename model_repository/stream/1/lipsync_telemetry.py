"""What a Python model tells its operator: counters for Prometheus, a line of JSON for what came to nothing.

A model's directory stands alone, so this file lies in each of them, the same to the letter; a test holds
them to it. Tried on tritonserver 2.51.0: models, and instances of one model, may all ask for a family of the
same name; they share it, and metrics with the same labels are one number. The kind and the description must
be the same too, which is why all families of the service stand in FAMILIES. A model that is unloaded takes
nothing from the others. Adding to a number costs 17 microseconds, four of them a request for frames.
Triton writes a logged message as a string of JSON, so a line is JSON in JSON, and nobody breaks out of it.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

import triton_python_backend_utils as pb_utils

# Histograms came with a later release: means are seconds over frames.
FAMILIES = {
    "lipsync_frames_total": ("COUNTER", "Frames in answers, by avatar and output."),
    "lipsync_stage_seconds_total": (
        "COUNTER",
        "Time spent in a stage of a Python model, all its instances together.",
    ),
    "lipsync_refused_total": (
        "COUNTER",
        "Requests that came to nothing, by reason; `internal` is our fault, the others the caller's.",
    ),
    "lipsync_streams_open": ("GAUGE", "Streams that are being answered."),
}
INTERNAL = "internal"
_LONGEST = 300  # letters of a message or an id in the log: part of it is the caller's


class Number:
    """One number on the metrics page; nothing at all on a server that was built without metrics."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric

    def add(self, value: float) -> None:
        if self._metric is not None:
            with contextlib.suppress(pb_utils.TritonModelException):  # never at a request's cost
                self._metric.increment(value)

    def set(self, value: float) -> None:
        if self._metric is not None:
            with contextlib.suppress(pb_utils.TritonModelException):
                self._metric.set(value)


class Telemetry:
    """Of one model.

    Args:
        model: its name.
        reasons: why it may refuse a request; each counter exists from the start, or the first event of
            its kind would be no increase to Prometheus.
    """

    def __init__(self, model: str, reasons: tuple[str, ...]) -> None:
        self._model = model
        self._families: dict[str, Any] = {}
        self._refused = {
            reason: self.number("lipsync_refused_total", model=model, reason=reason)
            for reason in (*reasons, INTERNAL)
        }

    def number(self, family: str, **labels: str) -> Number:
        """A number of a family of FAMILIES."""
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
        """Count and log a request that is answered with an error; the message holds no sound."""
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
