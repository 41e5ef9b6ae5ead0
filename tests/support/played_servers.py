"""Servers that do, call by call, what a script says, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lipsync_client import (
    ServerError,
    ServerTimeout,
)
from lipsync_client._transports.replicas import Replicas
from lipsync_client._transports.request import Request, StreamResponse, Tensor
from support.virtual_time import now

HANGS = 1e9  # seconds


REQUEST = Request("anna", {}, "JPEG")


RECONNECT_TIMEOUT_S = 5.0


@dataclass
class Played:
    """A server that does, call by call, what the script says, and then the last of it again.

    Attributes:
        script: seconds until a response, or until an error.
        calls: times of the calls.
        ended: number of calls that are over.
    """

    url: str
    script: list[float | tuple[float, ServerError]]
    calls: list[float] = field(default_factory=list)
    ended: int = 0

    async def infer(self, request: Request, timeout_s: float) -> Tensor:
        assert request is REQUEST
        step = self.script[min(len(self.calls), len(self.script) - 1)]
        self.calls.append(now())
        seconds, error = step if isinstance(step, tuple) else (step, None)
        try:
            await asyncio.wait_for(asyncio.sleep(seconds), timeout_s)
        except (asyncio.TimeoutError, TimeoutError) as e:
            raise ServerTimeout(f"{self.url} did not answer within {timeout_s:g} s") from e
        finally:
            self.ended += 1
        if error is not None:
            raise error
        return np.array([self.url], object)

    async def config(self, model: str) -> dict[str, Any]:
        raise NotImplementedError

    async def index(self) -> list[dict[str, Any]]:
        raise NotImplementedError

    async def model_ready(self, model: str) -> bool:
        raise NotImplementedError

    async def metadata(self) -> dict[str, Any]:
        raise NotImplementedError

    async def close(self) -> None:
        """Nothing is open."""


class PlayedStream(Played):
    """A server whose stream has three responses, each as the script says."""

    async def stream(
        self, request: Request, first_timeout_s: float, timeout_s: float
    ) -> AsyncGenerator[StreamResponse, None]:
        limit_s = first_timeout_s
        for start in range(3):
            yield StreamResponse(start, await self.infer(request, limit_s))
            limit_s = timeout_s


def played(*scripts: list[float | tuple[float, ServerError]]) -> tuple[Replicas, list[Played]]:
    servers = [Played(f"grpc://{name}:8001", script) for name, script in zip("abc", scripts)]  # noqa: B905
    return Replicas(servers, RECONNECT_TIMEOUT_S), servers


def ask(replicas: Replicas, timeout_s: float = 120.0) -> Coroutine[Any, Any, Tensor]:
    return replicas.infer(REQUEST, timeout_s)
