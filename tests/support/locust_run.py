"""The `locust` command as a process, and the results of a run."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lipsync_embedded import Server

from .toy_avatars import ROOT

LOADTESTS = ROOT / "loadtests"
LOCUST = [sys.executable, "-m", "locust", "-f", str(LOADTESTS / "locustfile.py")]
STOP = "90s"  # users finish their requests, so that our counts and the server's agree


@dataclass(frozen=True)
class Run:
    """A finished run: exit code, output, our figures and the HTML report."""

    code: int
    log: str
    figures: dict[str, Any]
    html: str

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """Return the figures of the events of a kind."""
        return [row for row in self.figures["rows"] if row["kind"] == kind]

    def reasons(self) -> dict[str, int]:
        """Return the number of failures by reason."""
        counts: dict[str, int] = {}
        for failure in self.figures["failures"]:
            counts[failure["reason"]] = counts.get(failure["reason"], 0) + failure["count"]
        return counts

    def server(self, model: str) -> dict[str, Any]:
        """Return the server's figures of a model."""
        (load,) = [load for load in self.figures["server"] if load["model"] == model]
        return dict(load)


def addresses(server: Server) -> list[str]:
    return [
        "--grpc-url", server.grpc_url, "--http-url", server.http_url,
        "--metrics-url", server.metrics_url, "--avatar", "toy",
    ]  # fmt: skip


def run_locust(server: Server, directory: Path, *arguments: str) -> Run:
    """Run Locust headless.

    Args:
        arguments: further arguments, which override the usual ones; they must end the run.
    """
    html, figures = directory / "report.html", directory / "figures.json"
    command = [
        *LOCUST, "--headless", "--only-summary", "--stop-timeout", STOP,
        "--short-seconds", "1", "--long-seconds", "3", *addresses(server),
        "--html", str(html), "--csv", str(directory / "run"), "--summary", str(figures),
        *arguments,
    ]  # fmt: skip
    finished = subprocess.run(
        command, capture_output=True, text=True, timeout=150, cwd=directory, check=False
    )
    log = finished.stdout + finished.stderr
    assert figures.exists(), f"exit code {finished.returncode}, {log[-3000:]}"
    return Run(finished.returncode, log, json.loads(figures.read_text()), html.read_text())
