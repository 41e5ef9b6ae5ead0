"""Triton's `mel` model: unpack the requests, call lipsync_mel, pack the responses."""

from __future__ import annotations

import json
import time
from typing import Any

import lipsync_mel as dsp
import numpy as np
import triton_python_backend_utils as pb_utils
from lipsync_telemetry import INTERNAL, Telemetry


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        self._telemetry = Telemetry(args["model_name"], dsp.REASONS)
        self._seconds = self._telemetry.number(
            "lipsync_stage_seconds_total", model=args["model_name"], stage="mel"
        )
        self._max_frames = int(parameters["max_frames"]["string_value"])
        self._windows = dsp.MelWindows()

    def execute(self, requests: list[Any]) -> list[Any]:
        return [
            cancelled() if request.is_cancelled() else self._respond(request)
            for request in requests
        ]

    def _respond(self, request: Any) -> Any:
        began = time.perf_counter()
        try:
            response = pb_utils.InferenceResponse(self._outputs(request))
            self._seconds.add(time.perf_counter() - began)
            return response
        except dsp.RequestError as e:
            self._telemetry.refused(request, e.reason, str(e))
            error = pb_utils.TritonError(str(e), pb_utils.TritonError.INVALID_ARG)
        except Exception as e:  # one that left execute() would leak shared memory (server#7481)
            message = f"mel: {type(e).__name__}: {e}"
            self._telemetry.refused(request, INTERNAL, message)
            error = pb_utils.TritonError(message)
        return pb_utils.InferenceResponse(error=error)

    def _outputs(self, request: Any) -> list[Any]:
        audio = pb_utils.get_input_tensor_by_name(request, "AUDIO").as_numpy()
        start = _scalar(request, "AUDIO_START") or 0
        layout = dsp.lay_out(
            audio.size,
            start,
            _scalar(request, "CLIP_SAMPLES"),
            _scalar(request, "FRAME_START") or 0,
            _scalar(request, "FRAME_COUNT"),
            max_frames=self._max_frames,
        )
        offset = _scalar(request, "LOOP_OFFSET") or 0
        if abs(offset) > dsp.MAX_LOOP_OFFSET:
            raise dsp.RequestError(
                f"LOOP_OFFSET must be within ±{dsp.MAX_LOOP_OFFSET}, got {offset}"
            )
        last = layout.frame_start + layout.frame_count
        frames = np.arange(layout.frame_start, last, dtype=np.int64)
        return [
            pb_utils.Tensor("WINDOWS", self._windows(audio, start, layout)),
            pb_utils.Tensor("INDEX", layout.index),
            pb_utils.Tensor("LOOP_INDEX", (frames + offset)[:, None]),
            pb_utils.Tensor("LEVEL", dsp.levels(audio, start, layout)),
        ]


def _scalar(request: Any, name: str) -> int | None:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else int(tensor.as_numpy()[0])


def cancelled() -> Any:
    """Return the response to a request whose caller has gone: nobody needs its outputs."""
    error = pb_utils.TritonError("the request was cancelled", pb_utils.TritonError.CANCELLED)
    return pb_utils.InferenceResponse(error=error)
