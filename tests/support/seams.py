"""The audio that the frames of a live session were made for, where it is not the audio that was played.

A frame depends on audio after its own. Until that audio is placed, silence is expected there; and what was
placed may be dropped by an interruption. Frames that were made before such a change are given all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lipsync_client._live.audio import LiveAudio

LOOK_AHEAD = 12  # frames that audio reaches back
_OPENING = 2  # frames before placed audio that are always made for it
_SIZE = 640  # samples of a frame


@dataclass
class Seam:
    """A frame from which on other audio was played than what the frames before it were made for.

    Attributes:
        end: number of that frame.
        before: frames from this one on are made for what was played.
        tail: audio that the frames before expected from `end` on; silence follows it.
    """

    end: int
    before: int
    tail: NDArray[np.float32]


class Seams:
    """The seams of a session whose audio is mono at 16 kHz.

    Args:
        audio: of the session, which has not begun.
    """

    def __init__(self, audio: LiveAudio) -> None:
        self._seams: list[Seam] = []
        self._audio, self._place, self._cut = audio, audio.place, audio.cut
        audio.place, audio.cut = self._note_place, self._note_cut  # type: ignore[method-assign]

    def of(self, frame: int) -> Iterator[Seam]:
        """Yield the seams that may count for a frame."""
        for seam in self._seams:
            if frame < seam.before and seam.end <= frame + LOOK_AHEAD:
                yield seam

    def _note_place(self, frame: int) -> None:
        self._seams.append(Seam(frame, frame - _OPENING, np.zeros(0, np.float32)))
        self._place(frame)

    def _note_cut(self, frame: int) -> None:
        played = [seam for seam in self._seams if seam.end <= frame]
        dropped = [  # frames that were made before these seams know nothing of them now either
            Seam(
                frame,
                min(seam.before, frame),
                np.concatenate([self._line(frame, seam.end), seam.tail]),
            )
            for seam in self._seams
            if seam.end > frame
        ]
        self._seams = [
            *played,
            *dropped,
            Seam(frame, frame, self._line(frame, frame + 2 * LOOK_AHEAD)),
        ]
        self._cut(frame)

    def _line(self, first: int, end: int) -> NDArray[np.float32]:
        return self._audio._line.between(first * _SIZE, end * _SIZE)[:, 0]
