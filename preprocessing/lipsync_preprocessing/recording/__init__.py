"""From a recording, a video of a person who speaks, to a raw dataset folder."""

from lipsync_preprocessing.recording.making import RecordingOptions, make_dataset

__all__ = ["RecordingOptions", "make_dataset"]
