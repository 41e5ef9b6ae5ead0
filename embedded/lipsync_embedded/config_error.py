"""What the stand-in for the native backend raises."""

from __future__ import annotations


class ConfigError(ValueError):
    """The config and the graph do not fit together; the native backend would refuse to load the model too."""
