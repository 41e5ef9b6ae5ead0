"""Runs of the `locust` command against the session's server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lipsync_embedded import Server
from support.locust_run import Run, run_locust


@pytest.fixture
def locust(server: Server, tmp_path: Path) -> Callable[..., Run]:
    """Run Locust headless with these arguments."""
    return lambda *arguments: run_locust(server, tmp_path, *arguments)
