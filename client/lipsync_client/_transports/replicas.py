"""Several servers as one: each request goes to the least busy one, and to another if that fails.

The servers keep nothing between requests, so a request may be repeated anywhere. It is repeated only after
failures that another try can help with: a server that is gone, silent, or full. A refusal is final.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import TypeVar

from .._errors import (
    InputError,
    Overloaded,
    ServerError,
    ServerLost,
    ServerTimeout,
    UnknownAvatar,
    Unreachable,
)
from .balancing import GONE, STREAM_SHARE, Replica, Tries, pick, repeat_after_s
from .request import JsonObject, Request, StreamResponse, StreamTransport, Tensor, Transport
from .transport import ASK_TIMEOUT_S

T = TypeVar("T")

_RETRIED = (Unreachable, ServerLost, ServerTimeout, Overloaded, UnknownAvatar)
_STREAM_LOAD = (
    3  # requests that a stream counts as: the server keeps so many of its chunks in flight
)


class Replicas:
    """A backend made of the transports to one or more servers.

    Args:
        transports: at least one.
        reconnect_timeout_s: longest wait for a server to come back when all are lost.

    Attributes:
        url: of all servers, with commas between them.
        transports: one for each server.
    """

    def __init__(self, transports: Sequence[Transport], reconnect_timeout_s: float) -> None:
        self.url = ",".join(transport.url for transport in transports)
        self.transports = list(transports)
        self._by_replica = {Replica(): transport for transport in transports}
        self._streaming: dict[Replica, StreamTransport] = {
            replica: transport
            for replica, transport in self._by_replica.items()
            if isinstance(transport, StreamTransport)
        }
        self._reconnect_timeout_s = reconnect_timeout_s
        self._responded_at: float | None = None
        self._served: set[str] = set()  # models that have responded

    async def infer(self, request: Request, timeout_s: float) -> Tensor:
        """Return the response of the server that gives one first.

        Raises:
            ServerError: of the last try, when no other can help or `timeout_s` is over.
            QueueTimeout: the request waited in a server's queue for its `queue_s`.
        """
        tries = Tries(request.model, _now(), timeout_s, len(self._by_replica))
        while True:
            replica = pick(self._by_replica, _now(), tries.failed)
            try:
                return await self._ask(replica, request, tries)
            except _RETRIED as error:
                await self._before_another_try(tries, replica, error)

    def check_streams(self) -> None:
        """Check that a server can be asked for a stream.

        Raises:
            InputError: all URLs are HTTP's.
        """
        if not self._streaming:
            raise InputError(
                f"{self.url}: a clip in one call needs gRPC (grpc://HOST:8001);"
                " over HTTP, `render` makes the same frames"
            )

    async def stream(
        self, request: Request, timeout_s: float
    ) -> AsyncGenerator[StreamResponse, None]:
        """Yield the responses to one request as they come, all from one server.

        A server that fails before its first response is left for another; a later failure is final.

        Args:
            request: of the streaming model.
            timeout_s: longest wait for the next response.

        Raises:
            InputError: all URLs are HTTP's.
            ServerError: of the last try.
        """
        self.check_streams()
        tries = Tries(request.model, _now(), timeout_s, len(self._streaming))
        first_timeout_s = STREAM_SHARE * timeout_s
        while True:
            replica = pick(self._streaming, _now(), tries.failed)
            replica.in_flight += _STREAM_LOAD
            responded = False
            try:
                responses = self._streaming[replica].stream(request, first_timeout_s, timeout_s)
                async with aclosing(responses):
                    async for response in responses:
                        if not responded:
                            responded = True
                            replica.works()
                            self._note_response(request.model)
                        yield response
                return
            except _RETRIED as error:
                if not isinstance(error, Overloaded):
                    replica.failed(_now())
                if responded:
                    raise
                await self._before_another_try(tries, replica, error)
                first_timeout_s = max(0.001, tries.left_s(_now()))
            finally:
                replica.in_flight -= _STREAM_LOAD

    async def _before_another_try(self, tries: Tries, replica: Replica, error: ServerError) -> None:
        """Wait as long as the next try should; raise the error if no other try can help."""
        everywhere = tries.round_failed(replica)
        if not tries.worth_another(
            error,
            _now(),
            everywhere=everywhere,
            served=tries.model in self._served,
            responded_at=self._responded_at,
            reconnect_timeout_s=self._reconnect_timeout_s,
        ):
            if isinstance(error, ServerTimeout):  # for all tries together
                message = f"{self.url} did not answer within {tries.timeout_s:g} s"
                raise ServerTimeout(message) from error
            raise error
        if everywhere:
            await asyncio.sleep(tries.next_round(_now()))

    async def _ask(self, first: Replica, request: Request, tries: Tries) -> Tensor:
        """Send a request to a server, and once more, to another if there is one, if it takes far too long."""
        calls = {self._begin(first, request, tries): first}
        error: BaseException | None = None
        try:
            while calls:
                done, _ = await asyncio.wait(
                    calls,
                    timeout=repeat_after_s(self._by_replica, tries.timeout_s, len(calls)),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    replica = calls.pop(task)
                    if task.exception() is None:
                        if first in calls.values() and first is not replica:  # it was overtaken
                            first.failed(_now())
                        return task.result()
                    error = error or task.exception()
                if not done:
                    asked = list(calls.values())
                    other = pick(self._by_replica, _now(), asked)
                    if other in asked or not other.rests(_now()):
                        calls[self._begin(other, request, tries)] = other
        finally:
            for task in calls:
                task.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        assert error is not None
        raise error

    def _begin(self, replica: Replica, request: Request, tries: Tries) -> asyncio.Task[Tensor]:
        """Begin a call; it counts as in flight from now on, so that the next request sees it."""
        call = asyncio.create_task(self._call(replica, request, tries))
        replica.in_flight += 1

        def ended(_: asyncio.Task[Tensor]) -> None:
            replica.in_flight -= 1

        call.add_done_callback(ended)
        return call

    async def _call(self, replica: Replica, request: Request, tries: Tries) -> Tensor:
        begun = _now()
        try:
            timeout_s = max(0.001, tries.left_s(begun))
            response = await self._by_replica[replica].infer(request, timeout_s)
        except (*GONE, ServerTimeout, UnknownAvatar):
            replica.failed(_now())
            raise
        self._note_response(request.model)
        replica.responded(_now() - begun)
        return response

    def _note_response(self, model: str) -> None:
        self._responded_at = _now()
        self._served.add(model)

    async def _any(self, call: Callable[[Transport], Awaitable[T]]) -> T:
        """Return the response of the first server that gives one, with the tries that a request gets."""
        tries = Tries("", _now(), ASK_TIMEOUT_S, len(self._by_replica))
        while True:
            replica = pick(self._by_replica, _now(), tries.failed)
            try:
                return await call(self._by_replica[replica])
            except _RETRIED as error:
                if isinstance(error, GONE):
                    replica.failed(_now())
                await self._before_another_try(tries, replica, error)

    async def config(self, model: str) -> JsonObject:
        """Return a model's config."""
        return await self._any(lambda transport: transport.config(model))

    async def index(self) -> list[JsonObject]:
        """Return the repository index: name, version and state of each model."""
        return await self._any(lambda transport: transport.index())

    async def metadata(self) -> JsonObject:
        """Return a server's name, version and extensions."""
        return await self._any(lambda transport: transport.metadata())

    async def close(self) -> None:
        """Close all connections."""
        for transport in self.transports:
            with suppress(ServerError):
                await transport.close()


def _now() -> float:
    return asyncio.get_running_loop().time()
