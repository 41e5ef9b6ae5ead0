"""LiveKit Agents: an avatar of a lip-sync server speaks what the agent says."""

from ._avatar import LipSyncAvatarSession
from ._encoded import EncodedAvatarRunner
from ._video import LipSyncVideoGenerator

__all__ = ["EncodedAvatarRunner", "LipSyncAvatarSession", "LipSyncVideoGenerator"]
