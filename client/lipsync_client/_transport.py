"""One asyncio interface to Triton over gRPC and over HTTP, with our errors."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp
import grpc
import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from ._errors import (
    InputError,
    Overloaded,
    Rejected,
    ServerError,
    ServerLost,
    ServerTimeout,
    UnknownAvatar,
    Unreachable,
)

Tensor = NDArray[Any]
Parameters = dict[str, str | int | bool]
_INT32_MAX = 2**31 - 1
_READY_TIMEOUT_S = 10.0
# A client that passes channel arguments gets none of tritonclient's own, so the size limits stand here.
_CHANNEL = [
    ("grpc.max_send_message_length", _INT32_MAX),
    ("grpc.max_receive_message_length", _INT32_MAX),
    ("grpc.primary_user_agent", "lipsync-client"),
]


class Transport(Protocol):
    """What both protocols offer."""

    url: str

    async def infer(
        self,
        model: str,
        inputs: dict[str, Tensor],
        output: str,
        parameters: Parameters,
        timeout_s: float,
    ) -> Tensor: ...
    async def config(self, model: str) -> dict[str, Any]: ...
    async def index(self) -> list[dict[str, Any]]: ...
    async def model_ready(self, model: str) -> bool: ...
    async def metadata(self) -> dict[str, Any]: ...
    async def close(self) -> None: ...


def connect(url: str) -> Transport:
    """A transport for grpc://HOST:PORT or http://HOST:PORT; nothing is sent yet.

    Raises:
        InputError: another kind of URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("grpc", "http") or not parts.hostname or parts.path.strip("/"):
        raise InputError(
            f"the server's URL must be grpc://HOST:PORT or http://HOST:PORT, got {url!r}"
        )
    port = parts.port or (8001 if parts.scheme == "grpc" else 8000)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return (Grpc if parts.scheme == "grpc" else Http)(url, f"{host}:{port}")


class _Base:
    """What differs between the two is the module of tritonclient, and little else."""

    _module: Any

    def __init__(self, url: str, client: Any) -> None:
        self.url = url
        self._client = client
        self._answered = False

    async def infer(
        self,
        model: str,
        inputs: dict[str, Tensor],
        output: str,
        parameters: Parameters,
        timeout_s: float,
    ) -> Tensor:
        """The output tensor of one request.

        Raises:
            ServerError: one of its kinds.
        """
        tensors = []
        for name, array in inputs.items():
            tensor = self._module.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            tensors.append(tensor)
        result = await self._call(
            self._client.infer(
                model,
                tensors,
                outputs=[self._module.InferRequestedOutput(output)],
                parameters=parameters or None,
            ),
            timeout_s,
        )
        array = result.as_numpy(output)
        if array is None:
            raise ServerError(f"{self.url}: {model} answered without {output}")
        return np.asarray(array)

    async def model_ready(self, model: str) -> bool:
        return bool(await self._call(self._client.is_model_ready(model)))

    async def close(self) -> None:
        await self._client.close()

    async def _call(self, call: Any, timeout_s: float = _READY_TIMEOUT_S) -> Any:
        try:
            answer = await asyncio.wait_for(call, timeout_s)
        except (asyncio.TimeoutError, TimeoutError) as e:
            raise ServerTimeout(f"{self.url} did not answer within {timeout_s:g} s") from e
        except InferenceServerException as e:
            raise self._translated(e) from e
        except (aiohttp.ClientError, grpc.RpcError, OSError) as e:
            raise self._gone(str(e)) from e
        self._answered = True
        return answer

    def _gone(self, reason: str) -> ServerError:
        if self._answered:
            return ServerLost(f"the server at {self.url} stopped answering: {reason}")
        return Unreachable(f"no server answers at {self.url} ({reason}); is it running?")

    def _translated(self, error: InferenceServerException) -> ServerError:
        status = str(error.status() or "").removeprefix("StatusCode.")
        message = str(error.message() or error)
        if status in ("UNAVAILABLE", "CANCELLED") and "not ready" not in message:
            if "exceeds maximum queue size" in message.lower():
                return Overloaded(f"{self.url} is full: {message}")
            return self._gone(message)
        if status == "DEADLINE_EXCEEDED":
            return ServerTimeout(f"{self.url} did not answer in time: {message}")
        if "unknown model" in message.lower() or "not ready" in message.lower():
            return UnknownAvatar(f"{self.url}: {message}; `lipsync-client avatars` lists them")
        if "maximum queue size" in message.lower() or status in ("RESOURCE_EXHAUSTED", "503"):
            return Overloaded(f"{self.url} is full: {message}")
        if status in ("INVALID_ARGUMENT", "400"):
            return Rejected(message)
        return ServerError(f"{self.url}: {message} ({status or 'no status'})")


class Grpc(_Base):
    """Triton's gRPC protocol."""

    _module = triton_grpc

    def __init__(self, url: str, address: str) -> None:
        super().__init__(url, triton_grpc_aio.InferenceServerClient(address, channel_args=_CHANNEL))

    async def config(self, model: str) -> dict[str, Any]:
        answer = await self._call(self._client.get_model_config(model, as_json=True))
        return dict(answer["config"])

    async def index(self) -> list[dict[str, Any]]:
        answer = await self._call(self._client.get_model_repository_index(as_json=True))
        return list(answer.get("models", []))

    async def metadata(self) -> dict[str, Any]:
        return dict(await self._call(self._client.get_server_metadata(as_json=True)))


class Http(_Base):
    """Triton's HTTP protocol, tensors in binary."""

    _module = triton_http

    def __init__(self, url: str, address: str) -> None:
        super().__init__(
            url, triton_http_aio.InferenceServerClient(address, conn_limit=64, conn_timeout=3600.0)
        )

    async def config(self, model: str) -> dict[str, Any]:
        return _object(await self._call(self._client.get_model_config(model)))

    async def index(self) -> list[dict[str, Any]]:
        return list(await self._call(self._client.get_model_repository_index()))

    async def metadata(self) -> dict[str, Any]:
        return _object(await self._call(self._client.get_server_metadata()))


def _object(answer: Any) -> dict[str, Any]:
    return dict(json.loads(answer) if isinstance(answer, str | bytes) else answer)
