"""Several servers as one: each request goes where the least is under way, and elsewhere if that fails.

The server keeps nothing between requests, so a request may be asked again anywhere. Tried again is only what
another try can help: a server that is gone, silent, or full. What a server refused is refused for good.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from .._errors import (
    InputError,
    Overloaded,
    ServerError,
    ServerLost,
    ServerTimeout,
    UnknownAvatar,
    Unreachable,
)
from .triton import Answer, Credentials, Grpc, Request, Tensor, Transport, connect

T = TypeVar("T")

_GONE = (Unreachable, ServerLost)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
_REST_S, _LONGEST_REST_S = 0.5, 10.0
# A request is asked elsewhere too when it takes this many times longer than its like, and so long at least.
_SLOW_FACTOR, _SLOW_S = 4.0, 2.0
_MEMORY = 0.8  # of the past in the running mean of a server's times
_STREAM = 3  # requests that a stream is like: the server keeps so many chunks of it under way


@dataclass(eq=False)
class _Replica:
    transport: Transport
    in_flight: int = 0
    usual_s: float = 0.0  # running mean of its answers' times; 0 before the first
    failures: int = 0  # in a row
    rests_until: float = 0.0

    def well(self) -> None:
        self.failures, self.rests_until = 0, 0.0

    def answered(self, seconds: float) -> None:
        self.well()
        old = self.usual_s or seconds
        self.usual_s = _MEMORY * old + (1 - _MEMORY) * seconds

    def failed(self) -> None:
        rest = min(_LONGEST_REST_S, _REST_S * 2**self.failures)
        self.failures += 1
        self.rests_until = time.monotonic() + rest


@dataclass
class _Tries:
    """Where one request_for was asked so far.

    Attributes:
        model: it is put to.
        deadline: no try begins later.
        unfit: ids of servers it cannot be put to.
    """

    model: str
    deadline: float
    unfit: frozenset[int] = frozenset()
    begun: float = field(default_factory=time.monotonic)
    pause: float = _FIRST_PAUSE_S
    at: set[int] = field(default_factory=set)


class Replicas:
    """A transport made of others.

    Args:
        transports: at least one.
        reconnect_timeout_s: how long a render waits for a server to come back once all are gone.
    """

    def __init__(self, transports: Sequence[Transport], reconnect_timeout_s: float) -> None:
        self.url = ",".join(t.url for t in transports)
        self.transports = list(transports)
        self._replicas = [_Replica(t) for t in transports]
        self._reconnect_timeout_s = reconnect_timeout_s
        self._answered_at: float | None = None
        self._served: set[str] = set()  # models that have answered

    async def infer(self, request_for: Request, timeout_s: float) -> Tensor:
        """One answer, from whichever server gives it first.

        Raises:
            ServerError: of the last try, when no other can help or `timeout_s` is over.
        """
        tries = _Tries(request_for.model, time.monotonic() + timeout_s)
        while True:
            replica = self._pick(tries.at)
            try:
                return await self._ask(replica, request_for, tries.deadline)
            except (*_GONE, ServerTimeout, Overloaded, UnknownAvatar) as error:
                await self._before_another_try(tries, replica, error)

    def check_streams(self) -> None:
        """Raises InputError: none of the servers is asked over gRPC, which a stream needs."""
        if not any(isinstance(t, Grpc) for t in self.transports):
            raise InputError(
                f"{self.url}: a clip in one call goes over gRPC (grpc://HOST:8001);"
                " over HTTP, `render` makes the same frames"
            )

    async def stream(self, request_for: Request, timeout_s: float) -> AsyncIterator[Answer]:
        """The answers to one request as they come, all from one server.

        A server that fails before its first answer is left for another; after that its failure is the end.

        Args:
            timeout_s: longest wait for the next answer.

        Raises:
            InputError: none of the servers is asked over gRPC.
            ServerError: of the last try.
        """
        self.check_streams()
        unfit = frozenset(id(r) for r in self._replicas if not isinstance(r.transport, Grpc))
        tries = _Tries(request_for.model, time.monotonic() + timeout_s, unfit)
        while True:
            replica = self._pick(tries.at | unfit)
            assert isinstance(replica.transport, Grpc)
            replica.in_flight += _STREAM
            answered = False
            try:
                answers = replica.transport.stream(request_for, timeout_s)
                async with aclosing(answers):  # type: ignore[type-var]
                    async for answer in answers:
                        if not answered:
                            answered = True
                            replica.well()
                            self._answered_at = time.monotonic()
                            self._served.add(request_for.model)
                        yield answer
                return
            except (*_GONE, ServerTimeout, Overloaded, UnknownAvatar) as error:
                if not isinstance(error, Overloaded):
                    replica.failed()
                if answered:
                    raise
                await self._before_another_try(tries, replica, error)
            finally:
                replica.in_flight -= _STREAM

    async def _before_another_try(
        self, tries: _Tries, replica: _Replica, error: ServerError
    ) -> None:
        """Note the failure, and wait if all have failed; raise it if no other try can help."""
        tries.at.add(id(replica))
        everywhere = len(tries.at | tries.unfit) == len(self._replicas)
        if not self._worth_another_try(tries, error, everywhere):
            raise error
        if everywhere:  # each was asked once: wait for one to come back, or for room
            tries.at.clear()
            await asyncio.sleep(
                min(tries.pause * random.uniform(0.5, 1.5), tries.deadline - time.monotonic())
            )
            tries.pause = min(2 * tries.pause, _LONGEST_PAUSE_S)

    def _worth_another_try(self, tries: _Tries, error: ServerError, everywhere: bool) -> bool:
        # A server that stops or starts knows none of its models (server#6230).
        gone = isinstance(error, _GONE) or (
            isinstance(error, UnknownAvatar) and tries.model in self._served
        )
        now = time.monotonic()
        if now >= tries.deadline:
            return False
        if not everywhere or isinstance(error, Overloaded):
            return True
        if gone and self._answered_at is not None:
            return now - max(tries.begun, self._answered_at) < self._reconnect_timeout_s
        return False  # nobody ever answered, none knows the avatar, or all are silent

    async def _ask(self, first: _Replica, request_for: Request, deadline: float) -> Tensor:
        """Ask one server; a second one too if the first takes far longer than is usual."""

        async def one(replica: _Replica) -> Tensor:
            replica.in_flight += 1
            begun = time.monotonic()
            try:
                answer = await replica.transport.infer(request_for, max(0.001, deadline - begun))
            except (Unreachable, ServerLost, ServerTimeout, UnknownAvatar):
                replica.failed()
                raise
            finally:
                replica.in_flight -= 1
            self._answered_at = time.monotonic()
            self._served.add(request_for.model)
            replica.answered(self._answered_at - begun)
            return answer

        asked = {asyncio.create_task(one(first)): first}
        usual = max(r.usual_s for r in self._replicas)
        patience: float | None = (
            max(_SLOW_S, _SLOW_FACTOR * usual) if len(self._replicas) > 1 else None
        )
        error: BaseException | None = None
        try:
            while asked:
                done, _ = await asyncio.wait(
                    asked, timeout=patience, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    asked.pop(task)
                    if task.exception() is None:
                        if first in asked.values():  # overtaken by one that was asked later
                            first.failed()
                        return task.result()
                    error = error or task.exception()
                if not done:
                    second = self._pick({id(first)})
                    if second is not first and not second.rests_until > time.monotonic():
                        asked[asyncio.create_task(one(second))] = second
                    patience = None
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        assert error is not None
        raise error

    def _pick(self, but: set[int]) -> _Replica:
        """The one with the least under way; one that rests after a failure only if all do."""
        now = time.monotonic()
        others = [r for r in self._replicas if id(r) not in but] or self._replicas
        return min(others, key=lambda r: (r.rests_until > now, r.in_flight, r.usual_s))

    async def _any(self, call: Callable[[Transport], Awaitable[T]]) -> T:
        """The answer of the first server that gives one."""
        error: ServerError | None = None
        for replica in sorted(self._replicas, key=lambda r: r.rests_until):
            try:
                return await call(replica.transport)
            except (Unreachable, ServerLost, ServerTimeout, UnknownAvatar) as e:
                if isinstance(e, _GONE):
                    replica.failed()
                error = error or e
        assert error is not None
        raise error

    async def config(self, model: str) -> dict[str, Any]:
        return await self._any(lambda t: t.config(model))

    async def index(self) -> list[dict[str, Any]]:
        return await self._any(lambda t: t.index())

    async def model_ready(self, model: str) -> bool:
        return await self._any(lambda t: t.model_ready(model))

    async def metadata(self) -> dict[str, Any]:
        return await self._any(lambda t: t.metadata())

    async def close(self) -> None:
        for transport in self.transports:
            with suppress(ServerError):
                await transport.close()


async def connect_all(urls: str, access: Credentials, reconnect_timeout_s: float) -> Replicas:
    """Transports for URLs with commas between them; a name with several addresses is a server at each.

    Raises:
        InputError: a URL of another kind, or none.
        Unreachable: a name that has no address.
    """
    wanted = [url.strip() for url in urls.split(",") if url.strip()]
    if not wanted:
        raise InputError("expected the server's URL, such as grpc://127.0.0.1:8001; got nothing")
    found: list[str] = []
    for url in wanted:
        found += [x for x in await _addresses(url) if x not in found]
    return Replicas([connect(url, access) for url in found], reconnect_timeout_s)


async def _addresses(url: str) -> list[str]:
    """One URL for each address of a name; the URL itself if it has one, or for TLS, which is to a name."""
    parts = urlsplit(url)
    if parts.scheme not in ("grpc", "http") or not parts.hostname or parts.hostname == "localhost":
        return [url]
    try:
        entries = await asyncio.get_running_loop().getaddrinfo(
            parts.hostname, parts.port, type=socket.SOCK_STREAM
        )
    except OSError as e:
        raise Unreachable(f"{url}: the name {parts.hostname} has no address ({e})") from e
    hosts = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
    if len(hosts) < 2:
        return [url]
    port = f":{parts.port}" if parts.port else ""
    return [f"{parts.scheme}://" + (f"[{h}]" if ":" in h else h) + port for h in hosts]
