"""What the server has, asked once for all users of a process."""

from __future__ import annotations

import logging

from gevent.lock import RLock

from lipsync_client import LipSyncError
from lipsync_client import UnknownAvatar as NotAnAvatar
from lipsync_client._avatar import Avatar, is_avatar

from .failures import Failure, Rejected, UnknownAvatar
from .requests import Connection

STREAM_MODEL = "stream"  # the decoupled model
log = logging.getLogger(__name__)


class Directory:
    """Avatars by name, and whether there is a stream; every method may raise a Failure."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._avatars: dict[str, Avatar] = {}
        self._names: list[str] = []
        self._stream: bool | None = None

    def names(self, connection: Connection, wanted: list[str]) -> list[str]:
        """The avatars asked for, else those that the server lists."""
        if wanted:
            return wanted
        with self._lock:
            if not self._names:
                try:
                    models = sorted(connection.models())
                except Failure as e:
                    raise type(e)(f"{e.message} (with --avatar the index is not needed)") from e
                self._names = [m for m in models if is_avatar(connection.config(m))]
            if not self._names:
                raise UnknownAvatar("the server lists no avatar")
            return self._names

    def avatar(self, connection: Connection, name: str) -> Avatar:
        with self._lock:
            if name not in self._avatars:
                try:
                    self._avatars[name] = Avatar.from_config(connection.config(name))
                except NotAnAvatar as e:
                    raise UnknownAvatar(str(e)) from e
                except LipSyncError as e:
                    raise Rejected(str(e)) from e
            return self._avatars[name]

    def has_stream(self, connection: Connection) -> bool:
        with self._lock:
            if self._stream is None:
                try:
                    connection.config(STREAM_MODEL)
                    self._stream = True
                except UnknownAvatar:
                    self._stream = False
                    log.warning(
                        "the server has no model %r: users of class StreamClips are skipped",
                        STREAM_MODEL,
                    )
            return self._stream
