"""Failures by cause: what Locust groups by, and what a reader of the report asks first."""

from __future__ import annotations

from typing import Any

from tritonclient.utils import InferenceServerException


class Failure(Exception):
    """A request that failed; `cause` is what it is counted under."""

    cause = "server error"

    def __str__(self) -> str:
        message = super().__str__()
        return f"{self.cause}: {message}" if message else self.cause

    @property
    def message(self) -> str:
        return super().__str__()


class Late(Failure):
    """A live chunk that came after its deadline, or was not asked for because too many were under way."""

    cause = "late"


class Unreachable(Failure):
    cause = "unreachable"


class TimedOut(Failure):
    cause = "timeout"


class UnknownAvatar(Failure):
    cause = "unknown avatar"


class Rejected(Failure):
    """The server says that the request is at fault."""

    cause = "rejected"


class Overloaded(Failure):
    cause = "overloaded"


class Denied(Failure):
    """A key, a token or a permission is missing."""

    cause = "denied"


class WrongAnswer(Failure):
    """An answer without the frames asked for."""

    cause = "wrong answer"


_BY_STATUS: dict[str, type[Failure]] = {
    "UNAVAILABLE": Unreachable,
    "CANCELLED": Unreachable,
    "DEADLINE_EXCEEDED": TimedOut,
    "499": TimedOut,
    "RESOURCE_EXHAUSTED": Overloaded,
    "429": Overloaded,
    "503": Overloaded,
    "INVALID_ARGUMENT": Rejected,
    "400": Rejected,
    "UNAUTHENTICATED": Denied,
    "PERMISSION_DENIED": Denied,
    "401": Denied,
    "403": Denied,
}


def translated(error: Any) -> Failure:
    """The failure behind an exception of tritonclient or of what lies below it."""
    if not isinstance(error, InferenceServerException):
        if isinstance(error, TimeoutError) or "timed out" in str(error).lower():
            return TimedOut(str(error))
        return Unreachable(f"{type(error).__name__}: {error}")
    status = str(error.status() or "").removeprefix("StatusCode.")
    message = str(error.message() or error)
    lower = message.lower()
    if "exceeds maximum queue size" in lower:
        return Overloaded(message)
    if "unknown model" in lower or "is not ready" in lower or "is not found" in lower:
        return UnknownAvatar(message)
    return _BY_STATUS.get(status, Failure)(message)
