"""Errors as RFC 9457 problem documents."""

from __future__ import annotations

import logging
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lipsync_client import (
    InputError,
    LipSyncError,
    NotAllowed,
    Overloaded,
    Rejected,
    ServerTimeout,
    UnknownAvatar,
    Unreachable,
)

_log = logging.getLogger("lipsync_web")
_STATUS: tuple[tuple[type[LipSyncError], int], ...] = (
    (InputError, 400),
    (UnknownAvatar, 404),
    (Rejected, 400),
    (Overloaded, 503),
    (NotAllowed, 502),
    (Unreachable, 502),
    (ServerTimeout, 504),
)


class Problem(HTTPException):
    """A refused request: an HTTP status and a sentence that says what to do."""


def status_of(error: LipSyncError) -> int:
    """Return the HTTP status for an error of the client library."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 502)


async def on_http_exception(_: Request, error: Exception) -> Response:
    """Return the problem document of a refused request."""
    assert isinstance(error, HTTPException)
    return document(error.status_code, error.detail, dict(error.headers or {}))


async def on_client_error(_: Request, error: Exception) -> Response:
    """Return the problem document of an error of the lip-sync server or of the input."""
    assert isinstance(error, LipSyncError)
    return document(status_of(error), str(error), {})


async def on_unreachable(_: Request, error: Exception) -> Response:
    """Return the problem document of a store or queue that does not answer."""
    _log.error("%s", error)
    detail = "The service's own store does not answer. Try again later."
    return document(503, detail, {"retry-after": "10"})


async def on_failure(_: Request, __: Exception) -> Response:
    """Return the problem document of a fault of the service; the log has it."""
    return document(500, "The service failed. Its log says why.", {})


def document(status: int, detail: str, headers: dict[str, str]) -> Response:
    """Return a problem document."""
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return JSONResponse(body, status, headers, media_type="application/problem+json")
