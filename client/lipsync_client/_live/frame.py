"""The frames and the events that a live session gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

EventKind = Literal[
    "first_audio", "first_frame", "playback_started", "playback_finished", "interrupted"
]


@dataclass(slots=True, eq=False)  # frozen would cost a session at rest a tenth of its time
class LiveFrame:
    """One 25th of a second of video and audio.

    Attributes:
        index: number of the frame in the session, from 0.
        video: H.264 access unit or JPEG (bytes), or uint8 (H, W, 3) BGR (RGB if the options say so); None
            where the previous frame is repeated, because this one was not ready in time. Not to be written
            to.
        audio: float32 (rate / 25, channels) in -1..1, at the rate and with the channels of the options'
            output. Not to be written to.
        idle: no audio is near, and the mouth is closed.
        loop_index: place in the avatar's loop.
        end_of_reply: the audio ends a reply: what was fed up to `flush()`, `finish()` or `interrupt()`.
    """

    index: int
    video: Any
    audio: Samples
    idle: bool
    loop_index: int
    end_of_reply: bool


@dataclass(frozen=True)
class LiveEvent:
    """A moment of a reply.

    Attributes:
        kind: first_audio: it began to be fed. first_frame: the first frame that moves the mouth was given,
            shortly before the audio. playback_started, playback_finished: the frame with the reply's first
            sample, or its last one, was given. interrupted: its playback ends where `position` says.
        reply: number of the reply in the session, from 0.
        time_s: when, on the clock of `time.monotonic()`.
        position: samples of the reply, as they were fed, that have been played.
    """

    kind: EventKind
    reply: int
    time_s: float
    position: int
