"""Waiting until a server that was started here is ready."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

_POLL_S = 0.05
# A proxy of the environment never stands between this machine and itself.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class NotReady(Exception):
    """The server ended, or was not ready in time; the message says which."""


def wait_ready(
    url: str, server_id: str, models: Sequence[str], timeout_s: float, ended: Callable[[], bool]
) -> None:
    """Wait until each model is ready; the server's own word stays "ready" with a dead Python process.

    Args:
        url: of the server's HTTP interface.
        server_id: of the server; another one at this address is not taken for it.
        models: those that were to be loaded.
        timeout_s: longest wait.
        ended: returns whether the server's process has ended.

    Raises:
        NotReady: the server ended, another one has its port, or the time is over.
    """
    deadline = time.monotonic() + timeout_s
    waiting: list[str] | None = None
    stranger = False
    while time.monotonic() < deadline:
        if ended():
            raise NotReady("it ended")
        if waiting is None:
            answered = (_json(f"{url}/v2") or {}).get("name")
            stranger = answered is not None and answered != server_id
            if answered == server_id and _ok(f"{url}/v2/health/ready"):
                waiting = list(models)
        if waiting is not None:
            waiting = [name for name in waiting if not _ok(f"{url}/v2/models/{name}/ready")]
            if not waiting:
                return
        time.sleep(_POLL_S)
    if stranger:
        raise NotReady(f"another server answers at {url}")
    late = "the server" if waiting is None else "models " + ", ".join(waiting)
    raise NotReady(f"{late} not ready in {timeout_s:g} s")


def _json(url: str) -> dict[str, Any] | None:
    try:
        with _open(url, timeout=5) as response:
            found = json.load(response)
    except (urllib.error.URLError, OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _ok(url: str) -> bool:
    try:
        with _open(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
