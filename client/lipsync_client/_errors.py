"""The errors of this package, as a tree.

LipSyncError
├── InputError              the caller's audio, path or option cannot be used
│   └── FormatError         an output format that does not exist, or that does not fit the other options
├── OutputError             the result cannot be written
│   └── PipeClosed          the reader of the pipe has left
├── ClientClosed            the client was closed before this call
├── UnsupportedProcess      the client cannot work in this process: it was forked, or gevent patched it
├── Incompatible            the server speaks another protocol than this client
└── ServerError             the server failed, or could not be reached
    ├── Unreachable         no server answers at the URL
    ├── ServerLost          the server answered before, and stopped
    ├── ServerTimeout       no response came in time
    ├── Overloaded          the server refuses more work for now
    │   └── QueueTimeout    the request waited in the server's queue for as long as it may
    ├── NotAllowed          the gateway refuses the caller: no token, a wrong one, or a call it does not allow
    ├── UnknownAvatar       the server has no such avatar, or it is not ready
    └── Rejected            the server refused the request; the message says why
"""

from __future__ import annotations


class LipSyncError(Exception):
    """Base of all errors that this package raises on purpose."""


class InputError(LipSyncError):
    """The caller's audio, path or option cannot be used."""


class OutputError(LipSyncError):
    """The result cannot be written."""


class PipeClosed(OutputError):
    """The reader of the pipe has left."""


class ClientClosed(LipSyncError):
    """The client was closed before this call."""


class UnsupportedProcess(LipSyncError):
    """The client cannot work in this process: it was forked, or gevent has patched it."""


class Incompatible(LipSyncError):
    """The server speaks another protocol than this client."""


class ServerError(LipSyncError):
    """The server failed, or could not be reached."""


class Unreachable(ServerError):
    """No server answers at the URL."""


class ServerLost(ServerError):
    """The server answered before, and stopped."""


class ServerTimeout(ServerError):
    """No response came in time."""


class Overloaded(ServerError):
    """The server refuses more work for now."""


class QueueTimeout(Overloaded):
    """The request waited in the server's queue for as long as it may."""


class NotAllowed(ServerError):
    """The gateway refuses the caller: no token, a wrong one, or a call that it does not allow."""


class UnknownAvatar(ServerError):
    """The server has no such avatar, or it is not ready."""


class Rejected(ServerError):
    """The server refused the request; the message says why."""
