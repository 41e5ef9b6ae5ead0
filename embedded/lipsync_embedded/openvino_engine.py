"""OpenVINO in ONNX Runtime's place on a CPU: the same network in single precision, in less time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

Array = NDArray[Any]


class OpenVinoItems:
    """Runs the items of a batch side by side.

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
        compiled = core.compile_model(
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
        self._requests = [compiled.create_infer_request() for _ in range(streams)]
        self._inputs, self._outputs = inputs, outputs

    def __call__(self, items: list[list[Array]]) -> list[list[Array]]:
        """Outputs of each item; arrays have a first dimension of 1.

        The calling thread starts and collects them all: with one Python thread a stream, about one
        start in ten hung for ever (2026.4).
        """
        results: list[list[Array]] = []
        streams = len(self._requests)
        for n, item in enumerate(items):
            if n >= streams:
                results.append(self._finish(n - streams))
            request = self._requests[n % streams]
            request.start_async(dict(zip(self._inputs, item, strict=True)), share_inputs=True)
        done = len(results)
        return results + [self._finish(n) for n in range(done, len(items))]

    def _finish(self, n: int) -> list[Array]:
        request = self._requests[n % len(self._requests)]
        request.wait()
        return [np.array(request.get_tensor(name).data) for name in self._outputs]
