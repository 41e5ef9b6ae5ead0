"""The store that the settings name."""

from __future__ import annotations

from contextlib import AbstractContextManager, closing

from .settings import JobSettings
from .sqlite_store import SqliteStore
from .store import JobStore


def open_store(settings: JobSettings) -> AbstractContextManager[JobStore]:
    """Return the store of these settings, to be used in a `with` block."""
    if settings.queue is None:
        return closing(SqliteStore(settings.root / "jobs.sqlite"))
    from .redis_store import RedisStore  # its package is an extra's

    return closing(RedisStore(settings.queue))
