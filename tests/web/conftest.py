from __future__ import annotations

from collections.abc import Iterator

import pytest

from lipsync_embedded import Server
from lipsync_web import WebSettings
from support.web import running


@pytest.fixture(scope="session")
def web(server: Server) -> Iterator[str]:
    """The URL of a web service in front of the session's server."""
    settings = WebSettings(
        server.grpc_url,
        max_sessions=3,
        max_upload_bytes=4 << 20,
        max_audio_s=20,
        connect_timeout_s=3,
        unwatched_timeout_s=1,
        max_jobs=1,
        max_waiting_jobs=2,
    )
    with running(settings) as url:
        yield url
