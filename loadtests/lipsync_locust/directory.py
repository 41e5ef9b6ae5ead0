"""The server's avatars and models, requested once for all users of a process."""

from __future__ import annotations

import logging

from gevent.lock import RLock

from lipsync_client import Avatar, ServerError, UnknownAvatar
from lipsync_client._avatar import is_avatar

from .connections import TimedConnection

STREAM_MODEL = "stream"  # the decoupled model
log = logging.getLogger(__name__)


class Directory:
    """Avatars by name, and whether the server has the model `stream`.

    Every method may raise a LipSyncError.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._avatars: dict[str, Avatar] = {}
        self._names: list[str] = []
        self._stream: bool | None = None

    def names(self, connection: TimedConnection, wanted: list[str]) -> list[str]:
        """Return the wanted avatars; if none are named, those that the server lists."""
        if wanted:
            return wanted
        with self._lock:
            if not self._names:
                try:
                    models = sorted(connection.models())
                except ServerError as e:
                    raise type(e)(f"{e} (with --avatar the model index is not needed)") from e
                self._names = [m for m in models if is_avatar(connection.config(m))]
            if not self._names:
                raise UnknownAvatar("the server lists no avatar")
            return self._names

    def avatar(self, connection: TimedConnection, name: str) -> Avatar:
        """Return the avatar of this name."""
        with self._lock:
            if name not in self._avatars:
                self._avatars[name] = Avatar.from_config(connection.config(name))
            return self._avatars[name]

    def has_stream(self, connection: TimedConnection) -> bool:
        """Return whether the server has the model `stream`; log a warning if it has not."""
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
