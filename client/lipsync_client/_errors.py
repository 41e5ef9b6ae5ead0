"""What can go wrong, as a tree.

LipSyncError
├── InputError          the caller's audio, path or option
├── OutputError         the result cannot be written
│   └── PipeClosed      whoever read it has left
├── ServerError
│   ├── Unreachable     nobody answers at the URL
│   ├── ServerLost      it answered before, and stopped
│   ├── ServerTimeout   no answer within the deadline
│   ├── Overloaded      it refuses more work for now
│   ├── NotAllowed      its gateway lets nobody in without a token, or does not do this for callers
│   ├── UnknownAvatar   it serves no such avatar
│   └── Rejected        it refused the request; the message says why
└── Incompatible        the server speaks another protocol than this client
"""

from __future__ import annotations


class LipSyncError(Exception):
    """Base of everything this package raises on purpose."""


class InputError(LipSyncError):
    """The caller's audio, path or option cannot be used."""


class OutputError(LipSyncError):
    """The result cannot be written."""


class PipeClosed(OutputError):
    """Whoever read the result from a pipe has left."""


class Incompatible(LipSyncError):
    """The server speaks another protocol than this client."""


class ServerError(LipSyncError):
    """The server failed, or could not be reached."""


class Unreachable(ServerError):
    """Nobody answers at the URL."""


class ServerLost(ServerError):
    """The server answered before, and stopped."""


class ServerTimeout(ServerError):
    """No answer within the deadline."""


class Overloaded(ServerError):
    """The server refuses more work for now."""


class NotAllowed(ServerError):
    """The server's gateway refused the caller."""


class UnknownAvatar(ServerError):
    """The server has no such avatar, or it is not ready."""


class Rejected(ServerError):
    """The server refused the request; the message says why."""
