from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lipsync_embedded import Server
from lipsync_web import WebSettings
from lipsync_web.jobs.settings import JobSettings
from support.jobs import SECRET, Receiver, RedisServer
from support.web import running


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    """A server on this machine that receives webhooks and serves files."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def web(server: Server) -> Iterator[str]:
    """The URL of a web service in front of the session's server."""
    jobs = JobSettings(
        workers=1,
        max_jobs=4,
        max_caller_jobs=3,
        webhook_secret=SECRET,
        url_hosts=("localhost",),
        networks=("127.0.0.0/8", "::1/128"),
    )
    settings = WebSettings(
        server.grpc_url,
        max_sessions=3,
        max_upload_bytes=4 << 20,
        max_audio_s=20,
        connect_timeout_s=3,
        unwatched_timeout_s=1,
        jobs=jobs,
    )
    with running(settings) as url:
        yield url


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of its own that writes every change to disk at once."""
    with RedisServer(tmp_path / "redis") as redis:
        yield redis
