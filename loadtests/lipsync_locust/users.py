"""Locust users: for clips and for live viewers over each protocol, and for the model `stream`."""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections import deque

import gevent
import grpc.experimental.gevent as grpc_gevent
import numpy as np
from gevent import Greenlet
from gevent.pool import Pool
from locust import User, constant, tag, task  # patches the standard library
from locust.exception import StopUser
from numpy.typing import NDArray

from lipsync_client import Avatar, LipSyncError, protocol

from .connections import GrpcConnection, HttpConnection, TimedConnection, cut_chunks, slice_tensors
from .directory import STREAM_MODEL, Directory
from .failures import Late, WrongResponse
from .settings import LoadTestSettings
from .tally import CHUNK, CLIP, FIRST, LIVE, SETUP, STREAM, Measured

grpc_gevent.init_gevent()  # after Locust's patching, before any channel

LIVE_FRAMES = protocol.FPS  # of a live chunk, which is requested once a second
LIVE_BACKLOG = 5  # live chunks in flight beyond which a viewer requests no more
_RETRY_S = 1.0
log = logging.getLogger(__name__)
Samples = NDArray[np.float32]  # [n], 16 kHz


class LipsyncUser(User):
    """A user with a connection of its own; the users of a process share the directory of the server."""

    abstract = True
    connection: TimedConnection
    skipped = False  # the server lacks what this user needs; the log names it

    def on_start(self) -> None:
        if self.environment.lipsync.settings is not None:
            self.connection = self.connect(self.settings)

    def on_stop(self) -> None:
        if hasattr(self, "connection"):
            self.connection.close()

    def connect(self, settings: LoadTestSettings) -> TimedConnection:
        raise NotImplementedError

    @property
    def settings(self) -> LoadTestSettings:
        settings: LoadTestSettings | None = self.environment.lipsync.settings
        if settings is None:  # the log names the reason
            raise StopUser
        return settings

    @property
    def directory(self) -> Directory:
        directory: Directory = self.environment.lipsync.directory
        return directory

    def fire(
        self, name: str, began: float, measured: Measured, error: LipSyncError | None = None
    ) -> None:
        """Report an event to Locust.

        Args:
            began: start of the event, on the clock of time.perf_counter().
        """
        elapsed = time.perf_counter() - began
        self.environment.events.request.fire(
            request_type=self.connection.type,
            name=name,
            response_time=1000 * elapsed,
            response_length=0,
            response=None,
            context={"lipsync": measured},
            exception=error,
            start_time=time.time() - elapsed,
        )

    def choose_avatar(self, mixed: bool = False) -> Avatar | None:
        """Return the avatar to request; None if the server names none, which counts as a failure.

        Args:
            mixed: draw one of all avatars, in place of the first.
        """
        if self.skipped:
            raise StopUser
        began = time.perf_counter()
        try:
            names = self.directory.names(self.connection, self.settings.avatars)
            return self.directory.avatar(
                self.connection, random.choice(names) if mixed else names[0]
            )
        except LipSyncError as e:
            self.fire("avatars", began, Measured(SETUP), e)
            return None

    def request_chunk(
        self, name: str, kind: str, avatar: Avatar, samples: Samples, first: int, count: int
    ) -> bool:
        """Send one request; return whether its frames came in time."""
        live = kind == LIVE
        tensors = slice_tensors(samples, first, count, live=live)
        error: LipSyncError | None = None
        began = time.perf_counter()
        try:
            self.connection.infer(avatar.name, tensors, self.settings.output, count)
            if live and time.perf_counter() - began > self.settings.deadline_s:
                error = Late(f"came after {self.settings.deadline_s:g} s")
        except LipSyncError as e:
            error = e
        self.fire(name, began, Measured(kind, frames=count), error)
        return error is None


class ClipUser(LipsyncUser):
    """A user that renders clip after clip without a pause."""

    abstract = True
    wait_time = constant(0)

    @tag("short")
    @task(4)
    def short(self) -> None:
        self.clip("short", self.settings.short_s, self.choose_avatar())

    @tag("long")
    @task(1)
    def long(self) -> None:
        self.clip("long", self.settings.long_s, self.choose_avatar())

    @tag("mixed")
    @task(2)
    def mixed(self) -> None:
        self.clip("mixed", self.settings.short_s, self.choose_avatar(mixed=True))

    def clip(self, name: str, seconds: float, avatar: Avatar | None) -> None:
        """Render a clip; wait a second after a failure."""
        if avatar is None:
            gevent.sleep(_RETRY_S)
            return
        began = time.perf_counter()
        if not self.render(name, seconds, avatar, began):
            gevent.sleep(_RETRY_S)  # a refusal comes at once: do not repeat it in a tight loop

    def render(self, name: str, seconds: float, avatar: Avatar, began: float) -> bool:
        """Request the clip chunk by chunk, several in flight, and receive them in order.

        Returns:
            whether all frames came.
        """
        samples = self.settings.clip(seconds)
        total = protocol.frame_count(len(samples))
        in_flight = Pool(self.settings.in_flight)
        pending: deque[Greenlet] = deque()
        chunks = cut_chunks(total, avatar.max_frames)

        def send(number: int) -> None:
            for first, count in itertools.islice(chunks, number):
                arguments = (f"{name} chunk", CHUNK, avatar, samples, first, count)
                pending.append(in_flight.spawn(self.request_chunk, *arguments))

        try:
            send(self.settings.in_flight)
            received = 0
            while pending:
                if not pending.popleft().get():
                    return False
                if received == 0:
                    self.fire(f"{name} first frame", began, Measured(FIRST))
                received += 1
                send(1)
        finally:
            in_flight.kill()
        self.fire(f"{name} total", began, Measured(CLIP, clip_frames=total))
        return True


class LiveUser(LipsyncUser):
    """A live viewer: requests 25 frames each second, whether or not the earlier ones have come.

    Sessions of --long-seconds follow one another. The audio is at hand; its length is not sent.
    """

    abstract = True

    def on_start(self) -> None:
        super().on_start()
        self.pool = Pool(LIVE_BACKLOG)
        self.seconds = 0
        # Viewers do not all start at the same moment.
        self.began = time.perf_counter() + random.random()
        gevent.sleep(self.began - time.perf_counter())

    def on_stop(self) -> None:
        if hasattr(self, "pool"):
            self.pool.join(timeout=self.environment.stop_timeout or 0)
            self.pool.kill()
        super().on_stop()

    def wait_time(self) -> float:
        return max(0.0, self.began + self.seconds - time.perf_counter())

    @tag("live")
    @task
    def second(self) -> None:
        if self.skipped:
            raise StopUser
        session = max(1, int(self.settings.long_s))
        first = self.seconds % session * LIVE_FRAMES
        self.seconds += 1
        began = time.perf_counter()
        if self.pool.full():
            late = Late(f"not requested: {LIVE_BACKLOG} are in flight")
            self.fire("live chunk", began, Measured(LIVE, timed=False), late)
            return
        samples = self.settings.clip(session + 1.0)  # frames need audio after their own time
        self.pool.spawn(self._request_second, samples, first)

    def _request_second(self, samples: Samples, first: int) -> None:
        avatar = self.choose_avatar()
        if avatar is not None:
            count = min(LIVE_FRAMES, avatar.max_frames)
            self.request_chunk("live chunk", LIVE, avatar, samples, first, count)


class _OverGrpc:
    def connect(self, settings: LoadTestSettings) -> TimedConnection:
        return GrpcConnection(settings.grpc, settings.timeout_s, settings.headers)


class _OverHttp:
    def connect(self, settings: LoadTestSettings) -> TimedConnection:
        in_flight = max(settings.in_flight, LIVE_BACKLOG)
        return HttpConnection(settings.http, settings.timeout_s, settings.headers, in_flight)


class GrpcClips(_OverGrpc, ClipUser):
    """A user that renders clips in chunks over gRPC."""


class HttpClips(_OverHttp, ClipUser):
    """A user that renders clips in chunks over HTTP."""


class GrpcLive(_OverGrpc, LiveUser):
    """A live viewer over gRPC."""


class HttpLive(_OverHttp, LiveUser):
    """A live viewer over HTTP."""


class StreamClips(_OverGrpc, ClipUser):
    """A user that renders whole clips in one call of the decoupled model `stream`."""

    connection: GrpcConnection

    def on_start(self) -> None:
        super().on_start()
        if not hasattr(self, "connection"):
            return
        began = time.perf_counter()
        try:
            self.skipped = not self.directory.has_stream(self.connection)
        except LipSyncError as e:
            self.fire("avatars", began, Measured(SETUP), e)

    def render(self, name: str, seconds: float, avatar: Avatar, began: float) -> bool:
        samples = self.settings.clip(seconds)
        total = protocol.frame_count(len(samples))
        name, received = f"{name} stream", 0
        try:
            for frames in self.connection.stream(
                STREAM_MODEL, avatar.name, samples, self.settings.output
            ):
                if received == 0:
                    self.fire(f"{name} first frame", began, Measured(FIRST))
                received += frames
            if received != total:
                raise WrongResponse(f"expected {total} frames, got {received}")
        except LipSyncError as e:
            self.fire(f"{name} total", began, Measured(STREAM), e)
            return False
        self.fire(f"{name} total", began, Measured(STREAM, frames=total, clip_frames=total))
        return True


__all__ = ["GrpcClips", "GrpcLive", "HttpClips", "HttpLive", "StreamClips"]
