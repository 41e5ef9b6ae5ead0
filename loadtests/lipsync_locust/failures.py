"""Failures by cause: what Locust groups by, and what a reader of the report asks first."""

from __future__ import annotations

from tritonclient.utils import InferenceServerException

import lipsync_client


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


_BY_ERROR: dict[type[lipsync_client.ServerError], type[Failure]] = {
    lipsync_client.Unreachable: Unreachable,
    lipsync_client.ServerLost: Unreachable,
    lipsync_client.ServerTimeout: TimedOut,
    lipsync_client.UnknownAvatar: UnknownAvatar,
    lipsync_client.Rejected: Rejected,
    lipsync_client.Overloaded: Overloaded,
    lipsync_client.NotAllowed: Denied,
}


def translated(error: Exception) -> Failure:
    """Return the failure behind an exception of tritonclient or of what lies below it."""
    failure = _BY_ERROR.get(type(lipsync_client.to_error(error, "the server")), Failure)
    if isinstance(error, InferenceServerException):
        return failure(str(error.message() or error))
    return failure(f"{type(error).__name__}: {error}")
