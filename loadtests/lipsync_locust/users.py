"""Locust users: one a protocol for clips, one a protocol for live viewers, one for the stream."""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import gevent
import grpc.experimental.gevent as grpc_gevent
from gevent.pool import Pool
from locust import User, constant, tag, task  # patches the standard library
from locust.exception import StopUser

from lipsync_client import protocol as timeline
from lipsync_client._avatar import Avatar
from lipsync_client._render import FIRST_CHUNK

from .directory import STREAM_MODEL, Directory
from .failures import Failure, Late, WrongAnswer
from .requests import Connection, GrpcConnection, HttpConnection, slice_tensors
from .settings import Settings
from .tally import CHUNK, CLIP, FIRST, LIVE, SETUP, STREAM, Measured

grpc_gevent.init_gevent()  # after Locust's patching, before any channel

LIVE_FRAMES = timeline.FPS  # of a live chunk: one a second
LIVE_BACKLOG = 5  # chunks a live viewer has under way before it asks for no more
_RETRY_S = 1.0
log = logging.getLogger(__name__)


class LipsyncUser(User):
    """A user with a connection of its own; what it knows of the server is shared."""

    abstract = True
    connection: Connection

    skipped = False  # there is nothing for this user to do, as the log says

    def on_start(self) -> None:
        if self.environment.lipsync.settings is not None:
            self.connection = self.connect(self.settings)

    def on_stop(self) -> None:
        if hasattr(self, "connection"):
            self.connection.close()

    def connect(self, settings: Settings) -> Connection:
        raise NotImplementedError

    @property
    def settings(self) -> Settings:
        settings: Settings | None = self.environment.lipsync.settings
        if settings is None:  # the log says why
            raise StopUser
        return settings

    @property
    def directory(self) -> Directory:
        directory: Directory = self.environment.lipsync.directory
        return directory

    def fire(
        self, name: str, began: float, measured: Measured, failure: Failure | None = None
    ) -> None:
        """Tell Locust of an event that began at `began` on the clock of time.perf_counter."""
        elapsed = time.perf_counter() - began
        self.environment.events.request.fire(
            request_type=self.connection.type,
            name=name,
            response_time=1000 * elapsed,
            response_length=0,
            response=None,
            context={"lipsync": measured},
            exception=failure,
            start_time=time.time() - elapsed,
        )

    def chosen(self, mixed: bool = False) -> Avatar | None:
        """The avatar to ask for; None if the server does not give one, which counts as a failure."""
        if self.skipped:
            raise StopUser
        began = time.perf_counter()
        try:
            names = self.directory.names(self.connection, self.settings.avatars)
            return self.directory.avatar(
                self.connection, random.choice(names) if mixed else names[0]
            )
        except Failure as e:
            self.fire("avatars", began, Measured(SETUP), e)
            return None

    def chunk(
        self, name: str, kind: str, avatar: Avatar, wave: Any, first: int, count: int
    ) -> bool:
        """One request; whether its frames came, and in time."""
        live = kind == LIVE
        tensors = slice_tensors(wave, first, count, live=live)
        failure: Failure | None = None
        began = time.perf_counter()
        try:
            self.connection.infer(avatar.name, tensors, self.settings.output, count)
            if live and time.perf_counter() - began > self.settings.deadline_s:
                failure = Late(f"came after {self.settings.deadline_s:g} s")
        except Failure as e:
            failure = e
        self.fire(name, began, Measured(kind, frames=count), failure)
        return failure is None


class ClipUser(LipsyncUser):
    """Clips one after the other, as fast as they come."""

    abstract = True
    wait_time = constant(0)

    @tag("short")
    @task(4)
    def short(self) -> None:
        self.clip("short", self.settings.short_s, self.chosen())

    @tag("long")
    @task(1)
    def long(self) -> None:
        self.clip("long", self.settings.long_s, self.chosen())

    @tag("mixed")
    @task(2)
    def mixed(self) -> None:
        self.clip("mixed", self.settings.short_s, self.chosen(mixed=True))

    def clip(self, name: str, seconds: float, avatar: Avatar | None) -> None:
        if avatar is None:
            gevent.sleep(_RETRY_S)
            return
        began = time.perf_counter()
        if not self.render(name, seconds, avatar, began):
            gevent.sleep(_RETRY_S)  # a refusal comes back at once: do not spin on it

    def render(self, name: str, seconds: float, avatar: Avatar, began: float) -> bool:
        """Ask for the clip chunk by chunk, a few under way at once, and take them in order."""
        wave = self.settings.clip(seconds)
        total = timeline.frame_count(len(wave))
        ahead = Pool(self.settings.in_flight)
        pending: deque[Any] = deque()
        chunks = _chunks(total, avatar.max_frames)
        try:
            for first, count in itertools.islice(chunks, self.settings.in_flight):
                pending.append(
                    ahead.spawn(self.chunk, f"{name} chunk", CHUNK, avatar, wave, first, count)
                )
            taken = 0
            while pending:
                if not pending.popleft().get():
                    return False
                if taken == 0:
                    self.fire(f"{name} first frame", began, Measured(FIRST))
                taken += 1
                for first, count in itertools.islice(chunks, 1):
                    pending.append(
                        ahead.spawn(self.chunk, f"{name} chunk", CHUNK, avatar, wave, first, count)
                    )
        finally:
            ahead.kill()
        self.fire(f"{name} total", began, Measured(CLIP, clip_frames=total))
        return True


class LiveUser(LipsyncUser):
    """A live viewer: 25 frames asked for each second, whether or not the last ones have come.

    Session after session of --long-seconds; the sound is at hand, its end is not told to the server.
    """

    abstract = True

    def on_start(self) -> None:
        super().on_start()
        self.pool = Pool(LIVE_BACKLOG)
        self.seconds = 0
        # Viewers do not come on the stroke of a second, all at once.
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
            late = Late(f"not asked for: {LIVE_BACKLOG} are under way")
            self.fire("live chunk", began, Measured(LIVE, timed=False), late)
            return
        wave = self.settings.clip(session + 1.0)  # frames need sound after their own time
        self.pool.spawn(self._chunk, wave, first)

    def _chunk(self, wave: Any, first: int) -> None:
        avatar = self.chosen()
        if avatar is not None:
            count = min(LIVE_FRAMES, avatar.max_frames)
            self.chunk("live chunk", LIVE, avatar, wave, first, count)


class _OverGrpc:
    def connect(self, settings: Settings) -> Connection:
        return GrpcConnection(*settings.grpc, settings.timeout_s, settings.headers)


class _OverHttp:
    def connect(self, settings: Settings) -> Connection:
        in_flight = max(settings.in_flight, LIVE_BACKLOG)
        return HttpConnection(*settings.http, settings.timeout_s, settings.headers, in_flight)


class GrpcClips(_OverGrpc, ClipUser):
    """Clips in chunks over gRPC."""


class HttpClips(_OverHttp, ClipUser):
    """Clips in chunks over HTTP."""


class GrpcLive(_OverGrpc, LiveUser):
    """Live viewers over gRPC."""


class HttpLive(_OverHttp, LiveUser):
    """Live viewers over HTTP."""


class StreamClips(_OverGrpc, ClipUser):
    """Whole clips in one call of the decoupled model `stream`."""

    connection: GrpcConnection

    def on_start(self) -> None:
        super().on_start()
        if not hasattr(self, "connection"):
            return
        began = time.perf_counter()
        try:
            self.skipped = not self.directory.has_stream(self.connection)
        except Failure as e:
            self.fire("avatars", began, Measured(SETUP), e)

    def render(self, name: str, seconds: float, avatar: Avatar, began: float) -> bool:
        wave = self.settings.clip(seconds)
        total = timeline.frame_count(len(wave))
        name, came = f"{name} stream", 0
        try:
            for frames in self.connection.stream(
                STREAM_MODEL, avatar.name, wave, self.settings.output
            ):
                if came == 0:
                    self.fire(f"{name} first frame", began, Measured(FIRST))
                came += frames
            if came != total:
                raise WrongAnswer(f"expected {total} frames, got {came}")
        except Failure as e:
            self.fire(f"{name} total", began, Measured(STREAM), e)
            return False
        self.fire(f"{name} total", began, Measured(STREAM, frames=total, clip_frames=total))
        return True


def _chunks(total: int, largest: int) -> Iterator[tuple[int, int]]:
    """First frame and number of frames of each request: a small one first, as the client does."""
    first, count = 0, min(largest, FIRST_CHUNK)
    while first < total:
        yield first, min(count, total - first)
        first, count = first + count, largest


__all__ = ["GrpcClips", "GrpcLive", "HttpClips", "HttpLive", "StreamClips"]
