"""The one table from the errors of Triton, gRPC and HTTP to the library's own."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from tritonclient.utils import InferenceServerException

from .._errors import (
    NotAllowed,
    Overloaded,
    QueueTimeout,
    Rejected,
    ServerError,
    ServerLost,
    ServerTimeout,
    UnknownAvatar,
    Unreachable,
)


@dataclass(frozen=True)
class _Row:
    """One kind of failure.

    Attributes:
        error: the class for it; Unreachable becomes ServerLost for a server that has responded before.
        message: the error's message, with {url} and {reason}.
        phrases: parts of Triton's or gRPC's message, in lower case, that show it.
        statuses: names of gRPC statuses and numbers of HTTP statuses that show it.
    """

    error: type[ServerError]
    message: str
    phrases: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()


PORTS = "gRPC is 8001, HTTP 8000, metrics 8002, the gateway 8443"  # by default
_UNREACHABLE = "no server answers at {url} ({reason}). Check that it runs, and its port: " + PORTS
_LOST = "the server at {url} stopped answering: {reason}"
NOT_TRITON = "not Triton"  # status of bytes that are no HTTP
_FULL = "{url} refuses more work for now: {reason}"
_LATE = "{url} did not answer in time: {reason}"

# The first row that fits counts: what a message says is more exact than its status.
_TABLE = (
    _Row(
        Rejected,
        "{reason}; ask for fewer frames in one request",
        phrases=("message larger than max",),
    ),
    _Row(QueueTimeout, _LATE, phrases=("request timeout expired",)),
    _Row(
        Overloaded,
        _FULL,
        phrases=("maximum queue size", "too many streams"),
        statuses=("429", "503"),
    ),
    _Row(
        NotAllowed,
        "{url} asks for a token that it knows (--token, LIPSYNC_TOKEN): {reason}",
        statuses=("UNAUTHENTICATED", "401"),
    ),
    _Row(
        NotAllowed,
        "{url} does not allow callers to do this: {reason}",
        phrases=("protocol is restricted", "api is restricted"),
        statuses=("PERMISSION_DENIED", "403"),
    ),
    # A Python model whose process has died; a stream while the server stops.
    _Row(Unreachable, _UNREACHABLE, phrases=("is not healthy", "server not ready")),
    _Row(
        UnknownAvatar,
        "{url}: {reason}; `lipsync-client avatars` lists those it has",
        phrases=("unknown model", "is not ready", "is not found"),
    ),
    # tritonclient's blocking HTTP client reports its own timeout as 499.
    _Row(ServerTimeout, _LATE, statuses=("DEADLINE_EXCEEDED", "504", "408", "499")),
    _Row(Unreachable, _UNREACHABLE, statuses=("UNAVAILABLE", "CANCELLED", "502")),
    _Row(Overloaded, _FULL, statuses=("RESOURCE_EXHAUSTED",)),
    _Row(Rejected, "{reason}", statuses=("INVALID_ARGUMENT", "400", "413")),
    _Row(
        ServerError,
        "{url} does not speak Triton's protocol ({reason}). Check the port: " + PORTS,
        statuses=(NOT_TRITON, "UNIMPLEMENTED", "404", "405"),
    ),
)


def to_error(error: Exception, url: str, *, responded: bool = False) -> ServerError:
    """Return the library's error for an exception of tritonclient, gRPC or the socket below.

    A program that calls Triton by itself can use it to tell failures apart the way this library does.

    Args:
        error: an exception that a call raised.
        url: of the server, for the message.
        responded: the server has responded before, so that it is lost and not unreachable.
    """
    if isinstance(error, InferenceServerException):
        status, reason = str(error.status() or ""), str(error.message() or error)
    elif isinstance(error, grpc.RpcError) and hasattr(error, "code"):
        status, reason = str(error.code()), str(error.details() or error)
    elif isinstance(error, TimeoutError) or "timed out" in str(error).lower():
        status, reason = "DEADLINE_EXCEEDED", str(error)
    else:
        status, reason = "UNAVAILABLE", str(error)
    return _from_status(
        status.removeprefix("StatusCode."), reason or type(error).__name__, url, responded
    )


def _from_status(status: str, reason: str, url: str, responded: bool) -> ServerError:
    lower = reason.lower()
    statuses = {status}
    if (
        not status.isdigit()
    ):  # a gateway refuses gRPC calls with an HTTP status, named in the message
        statuses.add(lower.rpartition("status: ")[2][:3])
    for row in _TABLE:
        if statuses.intersection(row.statuses) or any(phrase in lower for phrase in row.phrases):
            kind, message = row.error, row.message
            if kind is Unreachable and responded:
                kind, message = ServerLost, _LOST
            return kind(message.format(url=url, reason=reason))
    return ServerError(f"{url}: {reason} ({status or 'no status'})")
