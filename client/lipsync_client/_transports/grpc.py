"""Triton's gRPC protocol."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import np_to_triton_dtype

from .._process import check_grpc
from .addresses import Address
from .request import Credentials, JsonObject, Request, StreamResponse, Tensor
from .streaming import StreamCall
from .transport import BaseTransport, queue_timeout_us

_INT32_MAX = 2**31 - 1
# Channel arguments replace tritonclient's own, so the size limits stand here too.
_CHANNEL = (
    ("grpc.max_send_message_length", _INT32_MAX),
    ("grpc.max_receive_message_length", _INT32_MAX),
    ("grpc.primary_user_agent", "lipsync-client"),
    # Without these a server that is back after minutes is noticed after up to two more.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.min_reconnect_backoff_ms", 5000),  # in truth the time limit of one connection attempt
)


class GrpcTransport(BaseTransport):
    """The gRPC connection to one server."""

    failures = (grpc.RpcError,)

    def __init__(self, address: Address, credentials: Credentials) -> None:
        check_grpc()
        super().__init__(address, credentials)
        ca_file = credentials.ca_file
        self._client = triton_aio.InferenceServerClient(
            address.target,
            ssl=address.secure,
            root_certificates=None if ca_file is None else str(ca_file),
            channel_args=[*_CHANNEL, ("grpc.enable_http_proxy", int(address.proxied))],
        )

    async def infer(self, request: Request, timeout_s: float) -> Tensor:
        """Return the output tensor of one request.

        Raises:
            ServerError: the class that belongs to the failure.
        """
        call = self._client.infer(
            **self._arguments(request),
            outputs=[triton.InferRequestedOutput(request.output)],
            headers=self.headers_for(request),
            timeout=queue_timeout_us(timeout_s, request),
        )
        return self._tensor(await self.call(call, timeout_s), request, request.output)

    async def stream(
        self, request: Request, first_timeout_s: float, timeout_s: float
    ) -> AsyncGenerator[StreamResponse, None]:
        """Yield the responses to one request as they come; closing the generator ends the work at the server.

        Args:
            request: of the streaming model.
            first_timeout_s: longest wait for the first response.
            timeout_s: longest wait for each further response.

        Raises:
            ServerError: the class that belongs to the failure.
        """
        stream = StreamCall(self._client, self._arguments(request), self.headers_for(request))
        limit_s = first_timeout_s
        try:
            while (result := await self.call(stream.next(), limit_s)) is not None:
                (start,) = self._tensor(result, request, "FRAME_START")
                yield StreamResponse(int(start), self._tensor(result, request, request.output))
                limit_s = timeout_s
        finally:
            stream.cancel()

    def _arguments(self, request: Request) -> dict[str, Any]:
        inputs = []
        for name, array in request.inputs.items():
            tensor = triton.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
            inputs.append(tensor.set_data_from_numpy(array))
        return {
            "model_name": request.model,
            "inputs": inputs,
            "request_id": self.request_id(request),
            "parameters": dict(request.parameters) or None,
        }

    def _tensor(self, result: triton.InferResult, request: Request, output: str) -> Tensor:
        tensor = result.as_numpy(output)
        if tensor is None:
            raise self.missing(request, output)
        return np.asarray(tensor)

    async def config(self, model: str) -> JsonObject:
        """Return a model's config, as JSON would hold it."""
        headers = self._credentials.headers
        call = self._client.get_model_config(model, headers=headers, as_json=True)
        return dict((await self.call(call))["config"])

    async def index(self) -> list[JsonObject]:
        """Return the repository index: name, version and state of each model."""
        headers = self._credentials.headers
        call = self._client.get_model_repository_index(headers=headers, as_json=True)
        return list((await self.call(call)).get("models", []))

    async def model_ready(self, model: str) -> bool:
        """Return True if the server calls the model ready."""
        headers = self._credentials.headers
        return bool(await self.call(self._client.is_model_ready(model, headers=headers)))

    async def metadata(self) -> JsonObject:
        """Return the server's name, version and extensions."""
        headers = self._credentials.headers
        call = self._client.get_server_metadata(headers=headers, as_json=True)
        return dict(await self.call(call))

    async def _disconnect(self) -> None:
        await self._client.close()
