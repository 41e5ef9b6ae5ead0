"""The reasons under which failed requests are counted, and the two errors that only a load test has."""

from __future__ import annotations

from lipsync_client import (
    LipSyncError,
    NotAllowed,
    Overloaded,
    Rejected,
    ServerError,
    ServerLost,
    ServerTimeout,
    UnknownAvatar,
    Unreachable,
)

LATE = "late"


class Late(ServerError):
    """A live chunk came after its deadline, or was not requested because too many were in flight."""


class WrongResponse(ServerError):
    """A response without the frames that were requested."""


_REASONS: dict[type[LipSyncError], str] = {
    Late: LATE,
    WrongResponse: "wrong response",
    Unreachable: "unreachable",
    ServerLost: "unreachable",
    ServerTimeout: "timeout",
    UnknownAvatar: "unknown avatar",
    Rejected: "rejected",
    Overloaded: "overloaded",
    NotAllowed: "not allowed",
}


def reason_of(error: BaseException) -> str:
    """Return the reason under which an error is counted; a few words."""
    if isinstance(error, LipSyncError):
        return _REASONS.get(type(error), "server error")
    return type(error).__name__
