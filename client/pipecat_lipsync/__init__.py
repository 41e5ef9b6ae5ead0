"""Pipecat service: an avatar of a lip-sync server speaks what the bot says."""

from ._service import LipSyncVideoService

__all__ = ["LipSyncVideoService"]
