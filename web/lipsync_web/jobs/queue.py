"""The queues of renders and of webhooks, which huey keeps in SQLite or Redis."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from huey import Huey, SqliteHuey
from huey.registry import Message
from huey.serializer import Serializer

from .settings import JobSettings


class _JsonSerializer(Serializer):
    """Messages as JSON: huey's own are pickles, with which whoever writes to Redis could run code here."""

    def _serialize(self, data: Message) -> bytes:
        return json.dumps(data).encode()

    def _deserialize(self, data: bytes) -> Message:
        return Message(*json.loads(bytes(data)))


def _ignore(_: str) -> None:
    """Do nothing: a process that only adds to a queue runs no task."""


class JobQueue:
    """Two queues of jobs' ids.

    A message can be lost with the worker that took it, and can come twice: the records say what is to do.

    Args:
        settings: where the queues are.
        render, deliver: called in a worker with the id of a job.
    """

    def __init__(
        self,
        settings: JobSettings,
        render: Callable[[str], None] = _ignore,
        deliver: Callable[[str], None] = _ignore,
    ) -> None:
        self.renders, self._render = _queue(settings, "renders", render)
        self.webhooks, self._deliver = _queue(settings, "webhooks", deliver)

    def add(self, key: str) -> None:
        """Queue a render."""
        self._render(key)

    def add_webhook(self, key: str) -> None:
        """Queue the call of a webhook."""
        self._deliver(key)

    def pending(self) -> set[str]:
        """Return the jobs whose render is queued."""
        return {str(task.args[0]) for task in self.renders.pending()}

    def close(self) -> None:
        """Close the connections of this thread."""
        self.renders.storage.close()
        self.webhooks.storage.close()


def _queue(
    settings: JobSettings, name: str, task: Callable[[str], None]
) -> tuple[Huey, Callable[[str], Any]]:
    """Return a queue and the function that adds to it."""
    options: dict[str, Any] = {"results": False, "serializer": _JsonSerializer()}
    queue: Huey
    if settings.queue is None:
        path = str(settings.root / "jobs.sqlite")
        queue = SqliteHuey(f"lipsync-{name}", filename=path, timeout=30, fsync=True, **options)
    else:
        from huey import RedisHuey
        from redis import ConnectionPool

        from .redis_store import connection_options

        pool = ConnectionPool.from_url(settings.queue, **connection_options())
        queue = RedisHuey(f"lipsync{name}", connection_pool=pool, **options)

    def run(key: str) -> None:
        task(key)

    return queue, queue.task(name=name)(run)
