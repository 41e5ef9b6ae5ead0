"""The things that the live sessions of a client share: clock, idle frames, the server's measured speed."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import numpy as np

from .._avatar import Avatar
from .._render import RenderOptions, frames_of
from .._transports.request import Backend, Request
from .frame_clock import FrameClock
from .idle import IdleFrames
from .options import LiveOptions
from .server_speed import ServerSpeed


class LiveBackend(Backend, Protocol):
    """A backend that also returns the config of a model."""

    async def config(self, model: str) -> dict[str, Any]: ...


class Shared:
    """The idle frames and the measured speed that the sessions of one avatar and output share.

    Args:
        backend: that answers their requests.
        avatar, options, live_options: of the first session.

    Attributes:
        backend: that answers their requests.
        idle: the avatar's idle frames.
        speed: of the server.
        sessions: number of sessions that share this.
    """

    def __init__(
        self,
        backend: LiveBackend,
        avatar: Avatar,
        options: RenderOptions,
        live_options: LiveOptions,
    ) -> None:
        self.speed = ServerSpeed()
        budget = int(live_options.idle_mb * 2**20)
        self.idle = IdleFrames(avatar, options, budget, self.fetch)
        self.sessions = 0
        self.backend, self._rgb = backend, live_options.rgb
        self._loop = asyncio.get_running_loop()

    def fetch(self, request: Request, count: int, timeout_s: float) -> asyncio.Task[list[Any]]:
        """Send a request for `count` frames; the task returns them.

        Raises:
            ServerError: the request failed.
        """
        sent = self.speed.sent(self._loop.time(), count)

        def ended(task: asyncio.Task[list[Any]]) -> None:
            if not task.cancelled() and task.exception() is None:
                self.speed.answered(sent, self._loop.time())
            self.speed.ended(sent)

        task = asyncio.create_task(self._frames(request, timeout_s))
        task.add_done_callback(ended)
        return task

    async def _frames(self, request: Request, timeout_s: float) -> list[Any]:
        frames = frames_of(await self.backend.infer(request, timeout_s))
        return list(np.ascontiguousarray(frames[..., ::-1]) if self._rgb else frames)


class LivePool:
    """The live sessions of a client and what they share; it belongs to the event loop in which it is made.

    Args:
        backend: that answers the sessions' requests.
    """

    def __init__(self, backend: LiveBackend) -> None:
        self.backend = backend
        self.clock = FrameClock()
        self._shared: dict[tuple[object, ...], Shared] = {}

    def join(self, avatar: Avatar, options: RenderOptions, live_options: LiveOptions) -> Shared:
        """Return what the sessions of an avatar and an output share; `leave` gives it back."""
        key = (avatar, options.requested_output, options.encoder_options, live_options.rgb)
        if key not in self._shared:
            self._shared[key] = Shared(self.backend, avatar, options, live_options)
        shared = self._shared[key]
        shared.sessions += 1
        return shared

    async def leave(self, shared: Shared) -> None:
        """Note that a session has ended; the last one takes the idle frames with it."""
        shared.sessions -= 1
        if not shared.sessions:
            self._shared = {
                key: other for key, other in self._shared.items() if other is not shared
            }
            await shared.idle.close()
