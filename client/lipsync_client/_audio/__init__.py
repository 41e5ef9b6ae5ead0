"""The audio of a clip, as a stream of blocks: as it is for the output, mono at 16 kHz for the server."""

from .clip import ClipWindow, Samples
from .file import AudioFile

__all__ = ["AudioFile", "ClipWindow", "Samples"]
