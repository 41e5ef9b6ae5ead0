"""Embedded servers that tests share: one for each repository and set of options."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from lipsync_embedded import Server

Key = tuple[Path, tuple[tuple[str, Any], ...]]
_HARMED = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD, psutil.STATUS_STOPPED)


class ServerPool:
    """Running servers by repository and options.

    A server takes up to 6 s of CPU time to start, so a test asks the pool for one instead of starting its
    own. The test may do anything to it: a server that was killed, stopped, deprived of a process or left
    with other models is replaced when it is next asked for.

    Args:
        limit: servers that run at once, and so the most that a test can use at once. The server that was not
            used for the longest time makes room for a new one.
    """

    def __init__(self, limit: int = 3) -> None:
        self._limit = limit
        self._servers: dict[Key, tuple[Server, set[str]]] = {}

    def get(self, repository: Path, **options: Any) -> Server:
        """Return a ready server with these options of `Server`; its ports are free ones."""
        key = (repository.resolve(), tuple(sorted((k, _frozen(v)) for k, v in options.items())))
        server, models = self._servers.pop(key, (None, set()))
        if server is not None and not (is_whole(server) and ready_models(server) == models):
            end_server(server)
            server = None
        if server is None:
            while len(self._servers) >= self._limit:
                end_server(self._servers.pop(next(iter(self._servers)))[0])
            server = Server(repository, **options)
            server.start()
            models = ready_models(server)
        self._servers[key] = server, models  # at the end: used last
        return server

    def close(self) -> None:
        """Stop every server, all at once."""
        with ThreadPoolExecutor() as threads:
            list(threads.map(end_server, [server for server, _ in self._servers.values()]))
        self._servers.clear()


def is_whole(server: Server) -> bool:
    """Return whether tritonserver and its Python models run."""
    if server.poll() is not None or server.pid is None:
        return False
    return bool(found := family(server)) and all(p.status() not in _HARMED for p in found)


def ready_models(server: Server) -> set[str]:
    """Return the names of the models that are ready; nothing where the list is behind a key."""
    request = urllib.request.Request(f"{server.http_url}/v2/repository/index", b"{}")
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            index = json.load(response)
    except urllib.error.HTTPError as error:
        error.close()
        return set()
    return {entry["name"] for entry in index if entry.get("state") == "READY"}


def family(server: Server) -> list[psutil.Process]:
    """Return tritonserver and its Python models, without the guard, which cleans up after them."""
    children: list[psutil.Process] = psutil.Process(server.pid).children(recursive=True)
    return children


def harm(server: Server, how: str) -> None:
    """Kill a server without a word, stop all its processes, or kill the toy avatar's compositor.

    Args:
        how: "killed", "stopped" or "loses a stub".
    """
    for process in family(server):
        if how == "stopped":
            process.suspend()
        elif how == "killed" or any("/toy_compositor/" in part for part in process.cmdline()):
            process.kill()


def end_server(server: Server) -> None:
    """End a server at once: what a test left open would make it take long to stop by itself."""
    if server.pid is not None and server.poll() is None:
        for process in psutil.Process(server.pid).children():
            process.kill()
    server.stop()


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def urls(server: Server) -> list[str]:
    """Return the addresses of a server, for gRPC and for HTTP."""
    return [server.grpc_url, server.http_url]
