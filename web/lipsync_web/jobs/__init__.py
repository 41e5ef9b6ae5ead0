"""Jobs: an upload that becomes a video, made by worker processes that may be killed at any time."""
