"""The error of the stand-in for the native backend."""

from __future__ import annotations


class ConfigError(ValueError):
    """The config and the graph do not match; the native backend would refuse to load the model too."""
