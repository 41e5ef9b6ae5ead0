"""Our figures in Locust's HTML report and web page, and in CSV and JSON files."""

from __future__ import annotations

import csv
import json
import logging
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Response, request
from jinja2 import Environment as Templates
from jinja2 import PackageLoader

from .knee import Step
from .server_metrics import ModelLoad
from .summary import EventFigures, FailureFigures, LoadTestSummary

if TYPE_CHECKING:
    from locust.env import Environment
    from locust.web import WebUI

log = logging.getLogger(__name__)
_SETTINGS = (
    "avatar", "output", "audio", "short_seconds", "long_seconds", "in_flight", "live_deadline",
)  # fmt: skip
_TABLES = ("rows", "failures", "server", "steps")
_BODY = "<body>"


def shown_settings(options: Namespace, environment: Environment) -> dict[str, str | float]:
    """Return the settings that a reader needs to repeat the run, without the headers, which are secret."""
    shown = {name: getattr(options, name) for name in _SETTINGS}
    classes = ", ".join(c.__name__ for c in environment.user_classes)
    return {"host": environment.host or "127.0.0.1", "users": classes} | shown


def section(summary: LoadTestSummary) -> str:
    """Return the figures as a section of HTML."""
    templates = Templates(loader=PackageLoader(__package__, "."), autoescape=True, trim_blocks=True)
    templates.filters["number"] = number
    return templates.get_template("section.html").render(summary=summary)


def number(value: float | str | None) -> str:
    """Return a figure in the form that tables show."""
    if value is None:
        return "-"
    if isinstance(value, float):
        digits = 0 if abs(value) >= 100 else 1 if value >= 10 else 2
        return f"{value:.{digits}f}"
    return str(value)


def insert_section(page: str, summary: LoadTestSummary) -> str:
    """Return Locust's HTML report with our section at its top."""
    head, body, rest = page.rpartition(_BODY)
    if not body:
        raise ValueError(
            "Locust's report: expected a <body>, found none. This version of Locust is not supported."
        )
    return head + body + section(summary) + rest


def extend_web_ui(web_ui: WebUI, summary: Callable[[], LoadTestSummary]) -> None:
    """Add our section to the report that the web page offers, and as a page at /lipsync."""

    app = web_ui.app
    assert app is not None

    @app.after_request
    def extend_report(response: Response) -> Response:
        if request.path.endswith("/stats/report") and response.status_code == 200:
            response.set_data(insert_section(response.get_data(as_text=True), summary()))
        return response

    @app.route("/lipsync")
    @web_ui.auth_required_if_enabled
    def page() -> str:
        return f"<!doctype html><title>Lip-sync load test</title>{section(summary())}"

    @app.route("/lipsync.json")
    @web_ui.auth_required_if_enabled
    def figures() -> dict[str, Any]:
        return summary().to_dict()


def write(summary: LoadTestSummary, options: Namespace) -> None:
    """Write the files that the options name, and a few lines to the log."""
    if options.html_file and Path(options.html_file).exists():
        path = Path(options.html_file)
        path.write_text(insert_section(path.read_text("utf-8"), summary), "utf-8")
    if options.csv_prefix:
        for table in _TABLES:
            _write_csv(Path(f"{options.csv_prefix}_lipsync_{table}.csv"), getattr(summary, table))
    if options.summary:
        path = Path(options.summary)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(summary.to_dict(), indent=1) + "\n")
    for line in lines(summary):
        log.info("%s", line)


def lines(summary: LoadTestSummary) -> list[str]:
    """Return the run in a few sentences."""
    first, chunk = summary.first_frame_ms, summary.chunk_ms
    text = [
        f"{summary.frames} frames in {summary.elapsed_s:.1f} s: {summary.fps:.1f} per second,"
        f" {summary.realtime_factor:.2f} times real time",
        f"first frame p50/p95/p99: {'/'.join(map(number, first.values()))} ms;"
        f" chunk: {'/'.join(map(number, chunk.values()))} ms",
    ]
    text += [f"{f.count} x {f.type} {f.name}: {f.reason}" for f in summary.failures]
    text += [summary.server_note] if summary.server_note else []
    text += [summary.knee] if summary.knee else []
    return text + [f"limit broken: {broken}" for broken in summary.broken_limits]


def _write_csv(
    path: Path, rows: Sequence[EventFigures | FailureFigures | ModelLoad | Step]
) -> None:
    if not rows:
        path.unlink(missing_ok=True)  # left by an earlier run
        return
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, asdict(rows[0]).keys())
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
