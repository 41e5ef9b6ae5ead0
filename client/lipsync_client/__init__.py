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
from ._live import Live, LiveFrame, LiveSession
from ._outputs import Form
from ._render import Chunk, Plan
from ._to_file import Summary

__all__ = [
    "AsyncLipSyncClient",
    "Avatar",
    "Chunk",
    "Form",
    "Incompatible",
    "InputError",
    "LipSyncClient",
    "LipSyncError",
    "Live",
    "LiveFrame",
    "LiveSession",
    "NotAllowed",
    "OutputError",
    "Overloaded",
    "Plan",
    "Rejected",
    "ServerError",
    "ServerLost",
    "ServerTimeout",
    "Summary",
    "UnknownAvatar",
    "Unreachable",
]
