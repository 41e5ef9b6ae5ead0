"""A trace collector: OTLP over HTTP in JSON, which is the encoding that Triton sends."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Span:
    """One step of a trace; times in ns."""

    trace: str
    id: str
    parent: str
    name: str
    service: str
    attributes: dict[str, str]
    begin: int
    end: int


class Collector:
    """A receiver that listens on loopback until it is closed.

    Attributes:
        url: the URL for an exporter.
        spans: the spans received so far.
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        spans = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers["content-type"] != "application/json":
                    self.send_error(415)
                    return
                spans.extend(_spans(json.loads(body)))
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def trace(self, trace_id: str) -> list[Span]:
        """Return the spans of one trace that have arrived."""
        return [span for span in self.spans if span.trace == trace_id]

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _spans(request: dict[str, Any]) -> list[Span]:
    return [
        Span(
            trace=span["traceId"],
            id=span["spanId"],
            parent=span.get("parentSpanId", ""),
            name=span["name"],
            service=_text_attributes(resource["resource"])["service.name"],
            attributes=_text_attributes(span),
            begin=int(span["startTimeUnixNano"]),
            end=int(span["endTimeUnixNano"]),
        )
        for resource in request["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def _text_attributes(item: dict[str, Any]) -> dict[str, str]:
    values = {a["key"]: a["value"].get("stringValue") for a in item.get("attributes", [])}
    return {key: value for key, value in values.items() if value is not None}
