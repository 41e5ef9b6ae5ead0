"""The programs that tests start beside our own."""

from __future__ import annotations

import shutil

import pytest

from .toy_avatars import ROOT

NEEDS = "needs the program "  # begins the reason of a skip


def packages() -> dict[str, str]:
    """Return the Debian package of each program."""
    lines = (ROOT / "scripts/programs.txt").read_text().splitlines()
    return {line.split()[0]: line.split()[1] for line in lines if not line.startswith("#")}


def program(name: str) -> str:
    """Return the path of a program; skip the test if it is not installed."""
    assert name in packages(), f"{name} is not in scripts/programs.txt"
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(NEEDS + name)
    return found
