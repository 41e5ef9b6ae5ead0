"""OpenVINO in ONNX Runtime's place on a CPU: the same numbers in single precision, in less time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

Array = NDArray[Any]


class OpenVinoItems:
    """Runs a batching model one item at a time, from several threads at once.

    Args:
        path: the ONNX graph, its first dimension the batch.
        inputs, outputs: names, in the order arrays are given and returned.
        streams: items under way at once, each on one core.
    """

    def __init__(self, path: Path, inputs: list[str], outputs: list[str], streams: int) -> None:
        core = openvino.Core()
        model = core.read_model(str(path))
        shapes = {p.get_any_name(): [1, *list(p.partial_shape)[1:]] for p in model.inputs}
        model.reshape(shapes)
        self._compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "f32",  # by itself it takes bf16 where the CPU has it
                "PERFORMANCE_HINT": "THROUGHPUT",
                "NUM_STREAMS": streams,
                "INFERENCE_NUM_THREADS": streams,
                "ENABLE_CPU_PINNING": False,  # other models and servers share these cores
            },
        )
        self._inputs, self._outputs = inputs, outputs
        self._local = threading.local()

    def __call__(self, arrays: list[Array]) -> list[Array]:
        """Outputs of one item; arrays have a first dimension of 1."""
        request = getattr(self._local, "request", None)
        if request is None:
            request = self._local.request = self._compiled.create_infer_request()
        result = request.infer(dict(zip(self._inputs, arrays, strict=True)), share_inputs=True)
        return [np.asarray(result[name]) for name in self._outputs]
