"""The common part of the gRPC and the HTTP connection."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from typing import ClassVar, TypeVar

from tritonclient.utils import InferenceServerException

from .._errors import ClientClosed, ServerError, ServerTimeout
from .._timeout import within
from .addresses import Address
from .errors import to_error
from .request import Credentials, Request

T = TypeVar("T")

ASK_TIMEOUT_S = 10.0  # longest wait for a response that takes the server no work


class BaseTransport:
    """Headers, request ids and errors of a connection to one server.

    Attributes:
        failures: exceptions of the connection, beside tritonclient's own and the socket's.
    """

    failures: ClassVar[tuple[type[Exception], ...]] = ()

    def __init__(self, address: Address, credentials: Credentials) -> None:
        self.url = address.url
        self._credentials = credentials
        self._responded = self._closed = False

    def request_id(self, request: Request) -> str:
        """Return the client and the first frame, for the servers' logs: 6b1f09c2-40."""
        return f"{self._credentials.client_id}-{request.first_frame}"

    def headers_for(self, request: Request) -> dict[str, str]:
        """Return the headers of a request; the gateway logs its id, and reads no tensors."""
        extra = self._credentials.extra_headers
        added = {} if extra is None else {name.lower(): value for name, value in extra().items()}
        return {**added, "x-request-id": self.request_id(request), **self._credentials.headers}

    async def call(self, work: Awaitable[T], timeout_s: float = ASK_TIMEOUT_S) -> T:
        """Return what a call to the server returns.

        Raises:
            ServerError: the class that belongs to the failure.
            ClientClosed: the client was closed during the call.
        """
        try:
            result = await within(work, timeout_s)
        except BaseException as e:
            if self._closed:  # the connection reports that in its own way, gRPC as a cancellation
                raise ClientClosed("the client was closed during this call") from e
            if isinstance(e, asyncio.TimeoutError | TimeoutError):
                message = f"{self.url} did not answer within {timeout_s:g} s"
                raise ServerTimeout(message) from e
            if isinstance(e, Exception) and isinstance(
                e, (InferenceServerException, OSError, *self.failures)
            ):
                raise to_error(e, self.url, responded=self._responded) from e
            raise
        self._responded = True
        return result

    async def close(self) -> None:
        """Close the connection; calls in flight end with ClientClosed."""
        self._closed = True
        await self._disconnect()

    async def _disconnect(self) -> None:
        raise NotImplementedError

    def missing(self, request: Request, output: str) -> ServerError:
        """Return the error for a response without one of its outputs."""
        return ServerError(f"{self.url}: {request.model} responded without {output}")


def queue_timeout_us(timeout_s: float, request: Request) -> int:
    """Return Triton's request parameter `timeout`: the longest wait in a model's queue, microseconds.

    The server drops a request that has waited for longer: its caller no longer waits for the response.
    """
    wait_s = timeout_s if request.queue_s is None else min(timeout_s, request.queue_s)
    return max(1, math.ceil(wait_s * 1e6))  # 0 would mean no limit
