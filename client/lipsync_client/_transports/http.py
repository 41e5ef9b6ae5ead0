"""Triton's HTTP protocol, with tensors in binary."""

from __future__ import annotations

import json
import ssl
from typing import Any
from urllib.parse import quote

import aiohttp
import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from .._errors import Rejected, ServerError, UnknownAvatar
from .addresses import Address
from .errors import NOT_TRITON, PORTS
from .request import Credentials, JsonObject, Request, Tensor
from .transport import BaseTransport, queue_timeout_us

_CONNECTIONS = 64
_CONNECT_TIMEOUT_S = 5.0
_SHOWN = 200  # characters of a response that an error shows
_HEADER_LENGTH = "Inference-Header-Content-Length"


class HttpTransport(BaseTransport):
    """The HTTP connections to one server.

    The requests are written and the responses are read by tritonclient. Its own asyncio client knows no
    proxies, so they are sent by aiohttp.
    """

    failures = (aiohttp.ClientError,)

    def __init__(self, address: Address, credentials: Credentials) -> None:
        super().__init__(address, credentials)
        context: ssl.SSLContext | bool = True
        if address.secure and credentials.ca_file is not None:
            context = ssl.create_default_context(cafile=str(credentials.ca_file))
        self._session = aiohttp.ClientSession(
            address.url,
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS, ssl=context),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
            # aiohttp would offer gzip, and Triton take it: 2.9 instead of 0.6 s for 24 raw frames of 720p.
            headers={"Accept-Encoding": "identity", **credentials.headers},
            trust_env=address.proxied,  # http_proxy, https_proxy, no_proxy
        )

    async def infer(self, request: Request, timeout_s: float) -> Tensor:
        """Return the output tensor of one request.

        Raises:
            ServerError: the class that belongs to the failure.
        """
        inputs = []
        for name, array in request.inputs.items():
            tensor = triton.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
            inputs.append(tensor.set_data_from_numpy(array))
        body, header_length = triton.InferenceServerClient.generate_request_body(
            inputs,
            outputs=[triton.InferRequestedOutput(request.output)],
            request_id=self.request_id(request),
            parameters=dict(request.parameters) or None,
            timeout=queue_timeout_us(timeout_s, request),
        )
        headers = {**self.headers_for(request), _HEADER_LENGTH: str(header_length)}
        path = f"/v2/models/{quote(request.model)}/infer"
        content, length = await self.call(self._send("POST", path, body, headers), timeout_s)
        try:
            result = triton.InferResult.from_response_body(
                content, header_length=None if length is None else int(length)
            )
            array = result.as_numpy(request.output)
        except (ValueError, KeyError, InferenceServerException) as e:
            raise self._not_triton(content) from e
        if array is None:
            raise self.missing(request, request.output)
        return np.asarray(array)

    async def config(self, model: str) -> JsonObject:
        """Return a model's config."""
        return dict(await self._json("GET", f"/v2/models/{quote(model)}/config"))

    async def index(self) -> list[JsonObject]:
        """Return the repository index: name, version and state of each model."""
        return list(await self._json("POST", "/v2/repository/index"))

    async def model_ready(self, model: str) -> bool:
        """Return True if the server calls the model ready."""
        try:
            await self.call(self._send("GET", f"/v2/models/{quote(model)}/ready"))
        except (Rejected, UnknownAvatar):
            return False
        return True

    async def metadata(self) -> JsonObject:
        """Return the server's name, version and extensions."""
        return dict(await self._json("GET", "/v2"))

    async def _disconnect(self) -> None:
        await self._session.close()

    async def _json(self, method: str, path: str) -> Any:
        content, _ = await self.call(self._send(method, path))
        try:
            return json.loads(content)
        except ValueError as e:
            raise self._not_triton(content) from e

    def _not_triton(self, content: bytes) -> ServerError:
        return ServerError(
            f"{self.url} does not speak Triton's protocol: expected JSON, got {content[:_SHOWN]!r}."
            f" Check the port: {PORTS}"
        )

    async def _send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[bytes, str | None]:
        """Return the response's body and the length of its JSON part, if it says it."""
        request = self._session.request(
            method, path, data=body, headers=headers, allow_redirects=False
        )
        try:
            async with request as response:
                content = await response.read()
                if response.status != 200:
                    raise InferenceServerException(_reason(content), status=str(response.status))
                return content, response.headers.get(_HEADER_LENGTH)
        except aiohttp.ClientResponseError as e:  # the bytes that came are no HTTP
            reason = e.message.partition("\n")[0].strip(" :")
            raise InferenceServerException(reason, status=NOT_TRITON) from e


def _reason(content: bytes) -> str:
    """Return the reason in an error response: Triton's is JSON, a gateway's is text."""
    text = content.decode(errors="replace").strip()
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text[:_SHOWN] or "no reason given"
