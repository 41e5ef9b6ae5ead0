"""Client of the lip-sync service on Triton: speech in, a talking avatar out."""

from . import protocol
from ._avatar import Avatar
from ._blocking_client import LipSyncClient
from ._client import AsyncLipSyncClient
from ._errors import (
    ClientClosed,
    Incompatible,
    InputError,
    LipSyncError,
    NotAllowed,
    OutputError,
    Overloaded,
    PipeClosed,
    QueueTimeout,
    Rejected,
    ServerError,
    ServerLost,
    ServerTimeout,
    UnknownAvatar,
    Unreachable,
    UnsupportedProcess,
)
from ._live.blocking import BlockingLiveSession
from ._live.frame import LiveEvent, LiveFrame
from ._live.options import LiveOptions
from ._live.report import LiveReport
from ._live.session import LiveSession
from ._output.formats import FormatError, OutputFormat
from ._output.to_file import RenderSummary
from ._render import Chunk, RenderOptions
from ._transports.errors import to_error

__all__ = [
    "AsyncLipSyncClient",
    "Avatar",
    "BlockingLiveSession",
    "Chunk",
    "ClientClosed",
    "FormatError",
    "Incompatible",
    "InputError",
    "LipSyncClient",
    "LipSyncError",
    "LiveEvent",
    "LiveFrame",
    "LiveOptions",
    "LiveReport",
    "LiveSession",
    "NotAllowed",
    "OutputError",
    "OutputFormat",
    "Overloaded",
    "PipeClosed",
    "QueueTimeout",
    "Rejected",
    "RenderOptions",
    "RenderSummary",
    "ServerError",
    "ServerLost",
    "ServerTimeout",
    "UnknownAvatar",
    "Unreachable",
    "UnsupportedProcess",
    "protocol",
    "to_error",
]
