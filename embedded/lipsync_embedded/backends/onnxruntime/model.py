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
        try:
            batches = [
                [
                    pb_utils.get_input_tensor_by_name(r, name).as_numpy()
                    for name in self._model.inputs
                ]
                for r in requests
            ]
            answers = self._model.run(batches)
        except Exception as e:  # one that left execute() would leak shared memory (server#7481)
            error = pb_utils.TritonError(f"onnxruntime: {type(e).__name__}: {e}")
            return [pb_utils.InferenceResponse(error=error) for _ in requests]
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor(n, a) for n, a in zip(self._model.outputs, answer, strict=True)]
            )
            for answer in answers
        ]
