"""Client of the lip-sync service on Triton: speech in, a talking avatar out."""

from ._avatar import Avatar
from ._blocking_client import LipSyncClient
from ._client import AsyncLipSyncClient
from ._errors import (
    Incompatible,
    InputError,
    LipSyncError,
    NotAllowed,
    OutputError,
    Overloaded,
    Rejected,
    ServerError,
    ServerLost,
    ServerTimeout,
    UnknownAvatar,
    Unreachable,
)
from ._live.session import LiveFrame, LiveOptions, LiveSession
from ._output.formats import OutputFormat
from ._output.to_file import Summary
from ._render import Chunk, RenderOptions

__all__ = [
    "AsyncLipSyncClient",
    "Avatar",
    "Chunk",
    "Incompatible",
    "InputError",
    "LipSyncClient",
    "LipSyncError",
    "LiveFrame",
    "LiveOptions",
    "LiveSession",
    "NotAllowed",
    "OutputError",
    "OutputFormat",
    "Overloaded",
    "Rejected",
    "RenderOptions",
    "ServerError",
    "ServerLost",
    "ServerTimeout",
    "Summary",
    "UnknownAvatar",
    "Unreachable",
]
