"""The limit of live sessions: the user's, the one that the server tells, or the usual one."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection
from click.testing import CliRunner

from lipsync_embedded import Server
from lipsync_preprocessing.profiles.files import write_profile
from lipsync_preprocessing.profiles.settings import ONNXRUNTIME, ProfileSettings
from lipsync_web import WebSettings, cli
from support.replicas import free_port, wait_until
from support.servers import ServerPool
from support.web import running


def settings(url: str, **changes: Any) -> WebSettings:
    """Return settings with which a session outlives its test, though nobody watches it."""
    return WebSettings(url, connect_timeout_s=600, unwatched_timeout_s=600, **changes)


@pytest.fixture(scope="module")
def telling(toy_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose profile tells 2 live sessions for `toy`, and none for `wide`."""
    copied = shutil.copytree(toy_repository, tmp_path_factory.mktemp("telling") / "models")
    write_profile(copied, "toy", ONNXRUNTIME, ProfileSettings(live_sessions=2))
    return copied


@asynccontextmanager
async def offering() -> AsyncIterator[str]:
    """Yield the offer of a viewer, which never connects."""
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        for kind in ("video", "audio"):
            peer.addTransceiver(kind, direction="recvonly")
        await peer.setLocalDescription(await peer.createOffer())
        yield peer.localDescription.sdp
    finally:
        await peer.close()


async def opened(base: str, avatar: str, most: int) -> tuple[int, httpx.Response | None]:
    """Open sessions until one is refused, `most` of them; return their number and the refusal."""
    headers = {"content-type": "application/sdp"}
    async with httpx.AsyncClient(base_url=base, timeout=120) as http, offering() as offer:
        for count in range(most):
            path = f"/v1/avatars/{avatar}/whep"
            response = await http.post(path, content=offer, headers=headers)
            if response.status_code != 201:
                return count, response
    return most, None


def check_limit(base: str, limit: int, avatar: str = "toy") -> None:
    count, refusal = asyncio.run(opened(base, avatar, limit + 1))
    assert refusal is not None, f"{count} sessions were opened"
    assert (count, refusal.status_code) == (limit, 503), refusal.text
    assert refusal.json()["detail"] == f"All {limit} live sessions are taken. Try again later."
    assert refusal.headers["retry-after"] == "10"


def test_the_limit_is_the_one_that_the_server_tells(servers: ServerPool, telling: Path) -> None:
    """For the avatar asked for; sessions of all avatars count."""
    server = servers.get(telling, profile=ONNXRUNTIME)
    with running(settings(server.grpc_url)) as url:
        check_limit(url, 2)
        assert asyncio.run(opened(url, "wide", 1)) == (1, None)  # its own limit is the usual one


def test_the_users_number_wins(servers: ServerPool, telling: Path) -> None:
    server = servers.get(telling, profile=ONNXRUNTIME)
    for number in (1, 3):
        with running(settings(server.grpc_url, max_sessions=number)) as url:
            check_limit(url, number)


def test_the_usual_limit_where_the_server_tells_none(server: Server) -> None:
    with running(settings(server.grpc_url)) as url:
        check_limit(url, 8)


@pytest.mark.server
def test_a_server_that_starts_later_tells_it_too(telling: Path) -> None:
    port = free_port("127.0.0.1")
    with running(settings(f"grpc://127.0.0.1:{port}")) as url:
        count, refusal = asyncio.run(opened(url, "toy", 1))
        assert refusal is not None
        assert (count, refusal.status_code) == (0, 502)
        with Server(telling, models=["toy"], profile=ONNXRUNTIME, grpc_port=port):
            # gRPC tries again only some time after a connection was refused.
            wait_until("served", lambda: httpx.get(f"{url}/v1/avatars", timeout=60).is_success)
            check_limit(url, 2)


def test_the_command_passes_the_number_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the option there is none, so that the server is asked."""
    came: list[WebSettings] = []
    monkeypatch.setattr(cli, "create_app", came.append)
    monkeypatch.setattr("uvicorn.run", lambda *_, **__: None)
    for arguments in ([], ["--max-sessions", "5"]):
        result = CliRunner().invoke(cli.main, arguments)
        assert result.exit_code == 0, result.output
    assert [one.max_sessions for one in came] == [None, 5]
