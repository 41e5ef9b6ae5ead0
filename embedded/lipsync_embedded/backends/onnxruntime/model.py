"""Triton's `onnxruntime` backend where the native one is missing: adapts lipsync_embedded.onnx_model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from lipsync_embedded.onnx_model import OnnxModel


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        directory = Path(args["model_repository"]) / args["model_version"]
        self._model = OnnxModel(
            directory,
            json.loads(args["model_config"]),
            kind=args["model_instance_kind"],
            device=int(args["model_instance_device_id"]),
        )
        pb_utils.Logger.log_info(f"{args['model_name']}: {self._model.description}")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return the last response; those before it are sent as soon as they are computed."""
        last, sent = len(requests) - 1, 0
        try:
            batches = [
                [
                    pb_utils.get_input_tensor_by_name(r, name).as_numpy()
                    for name in self._model.inputs
                ]
                for r in requests
            ]
            for request, arrays in zip(requests, self._model.run(batches), strict=True):
                named = zip(self._model.outputs, arrays, strict=True)
                response = pb_utils.InferenceResponse([pb_utils.Tensor(*pair) for pair in named])
                if sent < last:
                    request.get_response_sender().send(
                        response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
                    )
                    sent += 1
            return [None] * last + [response]
        except Exception as e:  # one that left execute() would leak shared memory (server#7481)
            error = pb_utils.TritonError(f"onnxruntime: {type(e).__name__}: {e}")
            failed = [pb_utils.InferenceResponse(error=error) for _ in requests[sent:]]
            return [None] * sent + failed
