"""Raw requests to the container of the tests."""

from __future__ import annotations

from typing import Any

import tritonclient.grpc
import tritonclient.http
from numpy.typing import NDArray
from tritonclient.utils import np_to_triton_dtype

from support.containers import CONTAINER_HOST
from support.triton_calls import Triton, slice_request, speech


def request_frames(
    protocol: str, headers: dict[str, str], request_id: str, count: int = 4, seconds: float = 1.5
) -> NDArray[Any]:
    """Return JPEGs of the avatar `toy`."""
    module: Any = tritonclient.grpc if protocol == "grpc" else tritonclient.http
    client = module.InferenceServerClient(
        f"{CONTAINER_HOST}:{8001 if protocol == 'grpc' else 8000}"
    )
    inputs = []
    for name, array in Triton.tensors(**slice_request(speech(seconds), 8, count)).items():
        inputs.append(module.InferInput(name, array.shape, np_to_triton_dtype(array.dtype)))
        inputs[-1].set_data_from_numpy(array)
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
