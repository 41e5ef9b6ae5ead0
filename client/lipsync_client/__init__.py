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
    PipeClosed,
    Rejected,
    ServerError,
    ServerLost,
    ServerTimeout,
    UnknownAvatar,
    Unreachable,
)
from ._live.blocking import BlockingLiveSession
from ._live.report import LiveReport
from ._live.session import LiveFrame, LiveOptions, LiveSession
from ._output.formats import FormatError, OutputFormat
from ._output.to_file import RenderSummary
from ._render import Chunk, RenderOptions

__all__ = [
    "AsyncLipSyncClient",
    "Avatar",
    "BlockingLiveSession",
    "Chunk",
    "FormatError",
    "Incompatible",
    "InputError",
    "LipSyncClient",
    "LipSyncError",
    "LiveFrame",
    "LiveOptions",
    "LiveReport",
    "LiveSession",
    "NotAllowed",
    "OutputError",
    "OutputFormat",
    "Overloaded",
    "PipeClosed",
    "Rejected",
    "RenderOptions",
    "RenderSummary",
    "ServerError",
    "ServerLost",
    "ServerTimeout",
    "UnknownAvatar",
    "Unreachable",
]
