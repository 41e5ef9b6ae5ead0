"""Embedded servers that tests share: one for each repository and set of options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

from lipsync_embedded import Server

Key = tuple[Path, tuple[tuple[str, Any], ...]]
_ENDED = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
_NOT_RUNNING = (*_ENDED, psutil.STATUS_STOPPED)


class ServerPool:
    """Running servers by repository and options.

    A server takes up to 6 s of CPU time to start, so a test asks the pool for one instead of starting its
    own. The test may do anything to it: a server that was killed, stopped or deprived of a process is
    replaced when it is next asked for.

    Args:
        limit: servers that run at once, and so the most that a test can use at once. The server that was not
            used for the longest time makes room for a new one.
    """

    def __init__(self, limit: int = 3) -> None:
        self._limit = limit
        self._servers: dict[Key, tuple[Server, set[int]]] = {}

    def get(self, repository: Path, **options: Any) -> Server:
        """Return a ready server with these options of `Server`; its ports are free ones."""
        key = (repository.resolve(), tuple(sorted((k, _frozen(v)) for k, v in options.items())))
        server, pids = self._servers.pop(key, (None, set()))
        if server is not None and running_processes(server) != pids:
            end_server(server)
            server = None
        if server is None:
            while len(self._servers) >= self._limit:
                self._servers.pop(next(iter(self._servers)))[0].stop()
            server = Server(repository, **options)
            server.start()
            pids = running_processes(server)
        self._servers[key] = server, pids  # at the end: used last
        return server

    def close(self) -> None:
        """Stop every server."""
        for server, pids in self._servers.values():
            if running_processes(server) == pids:
                server.stop()
            else:
                end_server(server)
        self._servers.clear()


def running_processes(server: Server) -> set[int]:
    """Return the ids of a server's processes that run: tritonserver and its Python models."""
    if server.poll() is not None or server.pid is None:
        return set()
    children = psutil.Process(server.pid).children(recursive=True)
    return {child.pid for child in children if child.status() not in _NOT_RUNNING}


def end_server(server: Server) -> None:
    """Kill tritonserver and clean up: with a process missing it would take long to end by itself."""
    if server.pid is not None and server.poll() is None:
        for process in psutil.Process(server.pid).children():
            process.kill()
    server.stop()


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
