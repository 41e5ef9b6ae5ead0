"""Our figures in Locust's HTML report and web page, and as CSV and JSON files."""

from __future__ import annotations

import csv
import json
import logging
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from .summary import Summary

log = logging.getLogger(__name__)
_SETTINGS = (
    "avatar", "output", "audio", "short_seconds", "long_seconds", "in_flight", "live_deadline",
)  # fmt: skip
_TABLES = ("rows", "causes", "server", "steps")
_BODY = "<body>"


def shown_settings(options: Namespace, environment: Any) -> dict[str, Any]:
    """What a reader needs to know to run it again; never the headers."""
    shown = {name: getattr(options, name) for name in _SETTINGS}
    classes = ", ".join(c.__name__ for c in environment.user_classes)
    return {"host": environment.host or "127.0.0.1", "users": classes} | shown


def section(summary: Summary) -> str:
    """The figures as a piece of HTML."""
    templates = Environment(
        loader=PackageLoader(__package__, "."), autoescape=True, trim_blocks=True
    )
    templates.filters["number"] = number
    return templates.get_template("section.html").render(summary=summary)


def number(value: Any) -> str:
    """A figure as a table shows it."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return (
            f"{value:.0f}"
            if abs(value) >= 100
            else f"{value:.1f}"
            if value >= 10
            else f"{value:.2f}"
        )
    return str(value)


def inserted(page: str, summary: Summary) -> str:
    """Locust's HTML report with our section at its head."""
    head, body, rest = page.rpartition(_BODY)
    if not body:
        raise ValueError("Locust's report has no <body>: this version of Locust is not known here")
    return head + body + section(summary) + rest


def extend_web_ui(web_ui: Any, summary: Callable[[], Summary]) -> None:
    """Our section in the report that the web page offers, and as a page of its own at /lipsync."""

    @web_ui.app.after_request
    def extend_report(response: Any) -> Any:
        from flask import request

        if request.path.endswith("/stats/report") and response.status_code == 200:
            response.set_data(inserted(response.get_data(as_text=True), summary()))
        return response

    @web_ui.app.route("/lipsync")
    @web_ui.auth_required_if_enabled
    def page() -> str:
        return f"<!doctype html><title>Lip-sync load test</title>{section(summary())}"

    @web_ui.app.route("/lipsync.json")
    @web_ui.auth_required_if_enabled
    def figures() -> Any:
        return summary().to_dict()


def write(summary: Summary, options: Namespace) -> None:
    """The files that the options ask for, and a few lines in the log."""
    if options.html_file and Path(options.html_file).exists():
        path = Path(options.html_file)
        path.write_text(inserted(path.read_text("utf-8"), summary), "utf-8")
    if options.csv_prefix:
        for table in _TABLES:
            _write_csv(Path(f"{options.csv_prefix}_lipsync_{table}.csv"), getattr(summary, table))
    if options.summary:
        path = Path(options.summary)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(summary.to_dict(), indent=1) + "\n")
    for line in lines(summary):
        log.info("%s", line)


def lines(summary: Summary) -> list[str]:
    """The run in a few sentences."""
    first, chunk = summary.first_frame_ms, summary.chunk_ms
    text = [
        f"{summary.frames} frames in {summary.elapsed_s:.1f} s: {summary.fps:.1f} a second,"
        f" {summary.realtime_factor:.2f} times real time",
        f"first frame p50/p95/p99: {'/'.join(map(number, first.values()))} ms;"
        f" chunk: {'/'.join(map(number, chunk.values()))} ms",
    ]
    text += [f"{c['count']} x {c['type']} {c['name']}: {c['cause']}" for c in summary.causes]
    text += [summary.server_note] if summary.server_note else []
    text += [summary.knee] if summary.knee else []
    return text + [f"limit not kept: {broken}" for broken in summary.broken_limits]


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    if not rows:
        path.unlink(missing_ok=True)  # an earlier run's
        return
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
