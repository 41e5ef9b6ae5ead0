"""Raw requests to the container of the tests."""

from __future__ import annotations

from typing import Any

import tritonclient.grpc
import tritonclient.http
from numpy.typing import NDArray

from support.containers import CONTAINER_HOST
from support.triton_calls import Triton, infer_inputs, slice_request, speech


def request_frames(
    protocol: str, headers: dict[str, str], request_id: str, count: int = 4, seconds: float = 1.5
) -> NDArray[Any]:
    """Return JPEGs of the avatar `toy`."""
    module: Any = tritonclient.grpc if protocol == "grpc" else tritonclient.http
    client = module.InferenceServerClient(
        f"{CONTAINER_HOST}:{8001 if protocol == 'grpc' else 8000}"
    )
    inputs = infer_inputs(module, Triton.tensors(**slice_request(speech(seconds), 8, count)))
    try:
        result = client.infer(
            "toy",
            inputs,
            outputs=[module.InferRequestedOutput("JPEG")],
            headers=headers,
            request_id=request_id,
        )
        jpegs: NDArray[Any] = result.as_numpy("JPEG")
        return jpegs
    finally:
        client.close()
