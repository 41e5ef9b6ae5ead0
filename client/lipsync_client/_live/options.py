"""The options of a live session."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .. import protocol
from .._errors import InputError

_RATES = range(8_000, 192_001)  # Hz
_CHANNELS = range(1, 9)


@dataclass(frozen=True)
class LiveOptions:
    """The options of a live session.

    Attributes:
        rate: Hz of the audio that is fed; a multiple of 25, so that a frame is a whole number of samples.
        channels: of the audio that is fed.
        output_rate: Hz of the audio of the frames; None for `rate`.
        output_channels: of the audio of the frames, 1 or `channels` or, if one channel is fed, any number;
            None for `channels`.
        rgb: return frames of the output FRAMES in RGB instead of BGR.
        chunk: most frames per request. Fewer are requested where that brings the frames sooner.
        margin_s: added to the time that the server is measured to take; it adds to the latency.
        stall_s: longest time, in all, for which frames and audio wait for a late server before frames are
            repeated. A stall adds to the latency until the next pause of the audio.
        queue_s: audio that may wait to be played; `feed` waits while there is more.
        reconnect_timeout_s: longest time without any response from the server; then the session ends with
            the server's error.
        idle_mb: most MiB of idle frames kept, for each avatar, by all sessions of a client.

    Raises:
        InputError: an option is out of range.
    """

    rate: int = protocol.SAMPLE_RATE
    channels: int = 1
    output_rate: int | None = None
    output_channels: int | None = None
    rgb: bool = False
    chunk: int = 5
    margin_s: float = 0.02
    stall_s: float = 1.0
    queue_s: float = 30.0
    reconnect_timeout_s: float = 15.0
    idle_mb: int = 256

    def __post_init__(self) -> None:
        for name, rate in (("rate", self.rate), ("output_rate", self.audio_rate)):
            if rate not in _RATES or rate % protocol.FPS:
                raise InputError(
                    f"{name} must be a multiple of {protocol.FPS} from {_RATES.start} to {_RATES[-1]} Hz,"
                    f" got {rate}"
                )
        for name, channels in (
            ("channels", self.channels),
            ("output_channels", self.audio_channels),
        ):
            if channels not in _CHANNELS:
                raise InputError(f"{name} must be 1 to {_CHANNELS[-1]}, got {channels}")
        if self.audio_channels not in (1, self.channels) and self.channels != 1:
            raise InputError(
                f"output_channels must be 1 or {self.channels}, as many as are fed;"
                f" got {self.audio_channels}"
            )
        if self.chunk < 1:
            raise InputError(f"chunk must be 1 frame or more, got {self.chunk}")
        for name in ("margin_s", "stall_s", "queue_s", "reconnect_timeout_s", "idle_mb"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise InputError(f"{name} must be a number from 0, got {value}")

    @property
    def audio_rate(self) -> int:
        """Hz of the audio of the frames."""
        return self.rate if self.output_rate is None else self.output_rate

    @property
    def audio_channels(self) -> int:
        """Number of channels of the audio of the frames."""
        return self.channels if self.output_channels is None else self.output_channels
