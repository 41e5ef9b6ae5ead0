"""The frames as a live session gives them, one after the other."""

from __future__ import annotations

from .audio import LiveAudio
from .chunk import Chunk
from .frame import LiveFrame
from .replies import Replies
from .report import LiveReport
from .schedule import Schedule

_FORGET_EVERY = 25  # frames


class GivenFrames:
    """Makes the frames of their chunks, and counts them.

    Args:
        schedule: of the session; it goes on to the next frame with each one.
        audio: that belongs to the frames.
        replies: that they play.
        report: that they are counted in.
    """

    def __init__(
        self, schedule: Schedule, audio: LiveAudio, replies: Replies, report: LiveReport
    ) -> None:
        self._schedule, self._audio, self._replies, self._report = schedule, audio, replies, report
        self._last_heard = -1

    def interrupted(self, frame: int) -> None:
        """Note that a reply ends before a frame."""
        self._last_heard = frame - 1

    def next(self, chunk: Chunk, now: float) -> LiveFrame:
        """Return the next frame, which belongs to a chunk, and go on to the one after it."""
        schedule, audio = self._schedule, self._audio
        at, idle, frames = schedule.at, chunk.idle, chunk.frames
        n = at - chunk.start
        video = frames[n] if frames and n < len(frames) else None
        ends = at == self._last_heard
        if not idle and (arrived := audio.arrived(at)) is not None:
            self._report.latency(now - arrived)
        if self._replies.pending:
            moves = not idle and at >= schedule.reply_from
            ends |= self._replies.given(now, audio.played(at + 1), moves=moves)
        frame = LiveFrame(at, video, audio.frame_audio(at), idle, schedule.loop_index(at), ends)
        self._report.frame(now, repeated=video is None, idle=idle)
        schedule.at = at + 1
        if schedule.at % _FORGET_EVERY == 0:
            audio.forget(schedule.at)
        return frame

    def rest(self, chunk: Chunk, until: float) -> list[tuple[float, LiveFrame]]:
        """Return the next frames, and when they are due: of an idle chunk, while no reply is pending.

        All at once, because a session that wakes up for each of them finds nothing of its own in the caches.

        Args:
            chunk: to whose end they go.
            until: all are due before this time.
        """
        schedule, silence, frames = self._schedule, self._audio.silence, []
        first = schedule.at
        for at, video in enumerate((chunk.frames or ())[first - chunk.start : chunk.count], first):
            if (due := schedule.times.due(at)) >= until:
                break
            index = schedule.loop_index(at)
            frames.append((due, LiveFrame(at, video, silence, True, index, False)))
        return frames

    def note_rest(self, now: float) -> None:
        """Go on to the frame after one of `rest`, which is given now."""
        self._schedule.at += 1
        self._report.frame(now, repeated=False, idle=True)
