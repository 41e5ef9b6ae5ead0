"""One asyncio interface to Triton over gRPC and over HTTP, with our errors."""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
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

from .._errors import (
    InputError,
    NotAllowed,
    Overloaded,
    Rejected,
    ServerError,
    ServerLost,
    ServerTimeout,
    UnknownAvatar,
    Unreachable,
)
from .streaming import Streaming

Tensor = NDArray[Any]
Answer = tuple[int, Tensor]  # of a streaming model: number of its first frame, its frames
Parameters = dict[str, str | int | bool]
_INT32_MAX = 2**31 - 1
_READY_TIMEOUT_S = 10.0
_PORTS = {"grpc": 8001, "grpcs": 8443, "http": 8000, "https": 8443}  # Triton's, and the gateway's
# What Triton says of a Python model whose process has died, and within a stream while it stops.
_GONE = ("is not healthy", "server not ready")
# A client that passes channel arguments gets none of tritonclient's own, so the size limits stand here.
_CHANNEL = [
    ("grpc.max_send_message_length", _INT32_MAX),
    ("grpc.max_receive_message_length", _INT32_MAX),
    ("grpc.primary_user_agent", "lipsync-client"),
]


@dataclass(frozen=True)
class Credentials:
    """How to be let in where a gateway asks.

    Attributes:
        token: sent as `Authorization: Bearer TOKEN`.
        ca_file: PEM of who signed the gateway's certificate, if not one this machine trusts.
        name: of this client, the same at all servers; the requests' ids in their logs begin with it.
        more: headers for a request, asked for each; such as W3C's traceparent.
    """

    token: str | None = field(default=None, repr=False)
    ca_file: str | Path | None = None
    name: str = field(default_factory=lambda: secrets.token_hex(4))
    more: Callable[[], Mapping[str, str]] | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.token is None else {"authorization": f"Bearer {self.token}"}


@dataclass(frozen=True)
class Request:
    """One request for one output.

    Attributes:
        model: an avatar's name.
        inputs: its tensors by name.
        output: the one wanted.
        parameters: of the request.
    """

    model: str
    inputs: dict[str, Tensor]
    output: str
    parameters: Parameters = field(default_factory=dict)


class Backend(Protocol):
    """Whoever answers questions: a server, several as one, or what is kept on disk."""

    async def infer(self, request_for: Request, timeout_s: float) -> Tensor: ...


class Transport(Backend, Protocol):
    """What both protocols offer."""

    url: str

    async def config(self, model: str) -> dict[str, Any]: ...
    async def index(self) -> list[dict[str, Any]]: ...
    async def model_ready(self, model: str) -> bool: ...
    async def metadata(self) -> dict[str, Any]: ...
    async def close(self) -> None: ...


def connect(url: str, access: Credentials | None = None) -> Transport:
    """A transport for grpc://, grpcs://, http:// or https://HOST:PORT; nothing is sent yet.

    Raises:
        InputError: another kind of URL, or a CA file that cannot be read.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/"):
        raise InputError(
            "the server's URL must be grpc://HOST:PORT or http://HOST:PORT"
            f" (grpcs:// or https:// with TLS), got {url!r}"
        )
    access = access or Credentials()
    if access.ca_file is not None and not Path(access.ca_file).is_file():
        raise InputError(f"the CA file {access.ca_file} is not there")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    address = f"{host}:{parts.port or _PORTS[parts.scheme]}"
    secure = parts.scheme.endswith("s")
    return (Grpc if parts.scheme.startswith("grpc") else Http)(url, address, access, secure)


class _Base:
    """What differs between the two is the module of tritonclient, and little else."""

    _module: Any

    def __init__(self, url: str, client: Any, access: Credentials) -> None:
        self.url = url
        self._client = client
        self._headers = access.headers
        self._name, self._more = access.name, access.more
        self._answered = False

    async def infer(self, request_for: Request, timeout_s: float) -> Tensor:
        """The output tensor of one request.

        Raises:
            ServerError: one of its kinds.
        """
        call = self._client.infer(
            request_for.model,
            self._tensors(request_for),
            outputs=[self._module.InferRequestedOutput(request_for.output)],
            request_id=self._request_id(request_for),
            parameters=request_for.parameters or None,
            headers=self._headers_for(request_for),
        )
        return self._array(await self._call(call, timeout_s), request_for, request_for.output)

    def _tensors(self, request_for: Request) -> list[Any]:
        tensors = []
        for name, array in request_for.inputs.items():
            tensor = self._module.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            tensors.append(tensor)
        return tensors

    def _request_id(self, request_for: Request) -> str:
        """Who asks and for which frame, for the servers' logs: 6b1f09c2-40."""
        return f"{self._name}-{int(request_for.inputs.get('FRAME_START', np.zeros(1))[0])}"

    def _headers_for(self, request_for: Request) -> dict[str, str]:
        """The id for the gateway's log, where no tensors are read, and what the caller wants to go along."""
        more = {} if self._more is None else dict(self._more())
        return {**more, "x-request-id": self._request_id(request_for), **self._headers}

    def _array(self, result: Any, request_for: Request, output: str) -> Tensor:
        array = result.as_numpy(output)
        if array is None:
            raise ServerError(f"{self.url}: {request_for.model} answered without {output}")
        return np.asarray(array)

    async def model_ready(self, model: str) -> bool:
        return bool(await self._call(self._client.is_model_ready(model, headers=self._headers)))

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
        said = message.lower()
        # A gateway refuses gRPC calls with HTTP statuses, which arrive within the message.
        http_status = status if status.isdigit() else said.rpartition("status: ")[2][:3]
        if (
            "maximum queue size" in said
            or "too many streams" in said
            or http_status in ("429", "503")
        ):
            return Overloaded(f"{self.url} is full: {message}")
        if status == "UNAUTHENTICATED" or http_status == "401":
            return NotAllowed(
                f"{self.url} wants a token it knows (--token, LIPSYNC_TOKEN): {message}"
            )
        if status == "PERMISSION_DENIED" or http_status == "403":
            return NotAllowed(f"{self.url} does not let callers do this: {message}")
        if any(sign in said for sign in _GONE):
            return self._gone(message)
        if "unknown model" in said or "not ready" in said:
            return UnknownAvatar(f"{self.url}: {message}; `lipsync-client avatars` lists them")
        if status in ("UNAVAILABLE", "CANCELLED") or http_status == "502":
            return self._gone(message)
        if status == "DEADLINE_EXCEEDED" or http_status == "504":
            return ServerTimeout(f"{self.url} did not answer in time: {message}")
        if status == "RESOURCE_EXHAUSTED":
            return Overloaded(f"{self.url} is full: {message}")
        if status == "INVALID_ARGUMENT" or http_status in ("400", "413"):
            return Rejected(message)
        return ServerError(f"{self.url}: {message} ({status or 'no status'})")


class Grpc(_Base):
    """Triton's gRPC protocol."""

    _module = triton_grpc

    def __init__(self, url: str, address: str, access: Credentials, secure: bool) -> None:
        client = triton_grpc_aio.InferenceServerClient(
            address,
            ssl=secure,
            root_certificates=None if access.ca_file is None else str(access.ca_file),
            channel_args=_CHANNEL,
        )
        super().__init__(url, client, access)

    async def stream(self, request_for: Request, timeout_s: float) -> AsyncIterator[Answer]:
        """The answers to one request, as they come; leaving early ends the work at the server.

        Args:
            timeout_s: longest wait for the next answer.

        Raises:
            ServerError: one of its kinds.
        """
        request = {
            "model_name": request_for.model,
            "inputs": self._tensors(request_for),
            "request_id": self._request_id(request_for),
            "parameters": request_for.parameters or None,
        }
        call = Streaming(self._client, request, self._headers_for(request_for))
        try:
            while (result := await self._call(call.next(), timeout_s)) is not None:
                (start,) = self._array(result, request_for, "FRAME_START")
                yield int(start), self._array(result, request_for, request_for.output)
        finally:
            call.cancel()

    async def config(self, model: str) -> dict[str, Any]:
        call = self._client.get_model_config(model, headers=self._headers, as_json=True)
        return dict((await self._call(call))["config"])

    async def index(self) -> list[dict[str, Any]]:
        call = self._client.get_model_repository_index(headers=self._headers, as_json=True)
        return list((await self._call(call)).get("models", []))

    async def metadata(self) -> dict[str, Any]:
        call = self._client.get_server_metadata(headers=self._headers, as_json=True)
        return dict(await self._call(call))


class Http(_Base):
    """Triton's HTTP protocol, tensors in binary."""

    _module = triton_http

    def __init__(self, url: str, address: str, access: Credentials, secure: bool) -> None:
        context = None
        if secure:
            context = ssl.create_default_context(
                cafile=None if access.ca_file is None else str(access.ca_file)
            )
        client = triton_http_aio.InferenceServerClient(
            address, conn_limit=64, conn_timeout=3600.0, ssl=secure, ssl_context=context
        )
        super().__init__(url, client, access)

    async def config(self, model: str) -> dict[str, Any]:
        return _object(
            await self._call(self._client.get_model_config(model, headers=self._headers))
        )

    async def index(self) -> list[dict[str, Any]]:
        call = self._client.get_model_repository_index(headers=self._headers)
        return list(await self._call(call))

    async def metadata(self) -> dict[str, Any]:
        return _object(await self._call(self._client.get_server_metadata(headers=self._headers)))


def _object(answer: Any) -> dict[str, Any]:
    return dict(json.loads(answer) if isinstance(answer, str | bytes) else answer)
