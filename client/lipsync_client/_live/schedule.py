"""The decisions of a live session: time and audio in, requests and frames out; no clock and no I/O.

Every frame has a number, a place in the avatar's loop and a time at which it is due. What it shows follows
from the audio around it, so frames are requested in chunks as soon as that audio is there, and again when it
changes: at an interruption, and when a reply begins after silence.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import protocol
from ..protocol import FPS
from .audio import LEAD, LiveAudio
from .idle import IdleFrames
from .options import LiveOptions
from .report import LiveReport
from .server_share import ServerShare
from .server_speed import ServerSpeed
from .source_pace import SourcePace

# Audio that the models need after a frame's own beginning.
LOOK_AHEAD_S = (protocol.live_end(LEAD) - LEAD * protocol.SAMPLES_PER_FRAME) / protocol.SAMPLE_RATE
GRACE_S = 0.1  # frames that come so late are given at once, and the next ones in time again
OPENING = 2  # frames, at least, in which the mouth opens before the first sample of a reply
_AHEAD_S = 0.1  # speech is requested so long before the server must begin with it
_LONGEST_S = 0.5  # that is planned for a response: a server that takes longer is overloaded
_EXCESS_S = 0.06  # of latency; pauses of the speech are shortened beyond it
_COUNTED_S = 1.0  # a longer silence is a pause of the source, not one that it was waited for
_ROUNDING = 1e-6  # frames


@dataclass(eq=False)
class Chunk:
    """Consecutive frames that one request returns.

    Attributes:
        start: number of the first one.
        count: number of frames that are given; it shrinks when audio changes.
        wanted: number of frames that are requested; the others repeat the last one.
        idle: the frames depend on nothing but silence.
        sent_at: when it was requested.
        deadline: until when it was of use then.
        done_at: when the response came, or was given up.
        frames: the response; empty if it was given up, None before.
    """

    start: int
    count: int
    wanted: int
    idle: bool
    sent_at: float
    deadline: float = math.inf
    done_at: float = math.inf
    frames: Sequence[Any] | None = field(default=None, repr=False)

    @property
    def end(self) -> int:
        return self.start + self.count


class Schedule:
    """The plan of a session: the chunks it requests, and the times at which it gives its frames.

    Args:
        options: of the session.
        audio: that the session feeds; the schedule places it.
        speed: of the server.
        idle_frames: that are kept.
        loop_offset: place in the loop of frame 0.
        report: that stalls and waits are counted in.

    Attributes:
        at: number of the next frame to give.
        reply_from: number of the first frame whose mouth moves for the audio that was placed last.
    """

    def __init__(
        self,
        options: LiveOptions,
        audio: LiveAudio,
        speed: ServerSpeed,
        idle_frames: IdleFrames,
        loop_offset: int,
        report: LiveReport,
    ) -> None:
        self.share, self.source = ServerShare(), SourcePace()
        self.at = self.reply_from = 0
        self._options, self._audio, self._speed, self._report = options, audio, speed, report
        self._idle_frames, self._loop_offset = idle_frames, loop_offset
        self._chunks: deque[Chunk] = deque()
        self._planned = 0  # end of the last chunk
        self._origin: float | None = None  # when frame 0 was due, with all delays since
        self._flushed = self._finished = self._starved = False
        self._stalled_s = 0.0  # since the last silence

    @property
    def preparation_s(self) -> float:
        """Time to leave between now and frame 0."""
        return self._needs_s(self._options.chunk) if self._audio.waiting else 0.0

    def begin(self, origin: float) -> None:
        """Begin to give frames, the first one at a time."""
        self._origin = origin

    def due(self, frame: int) -> float:
        """Return when a frame is to be given."""
        assert self._origin is not None
        return self._origin + frame / FPS

    def loop_index(self, frame: int) -> int:
        """Return a frame's place in the avatar's loop."""
        return (self._loop_offset + frame) % self._idle_frames.period

    @property
    def latency_s(self) -> float:
        """From a sample to its frame, for audio at the pace of speech that begins now."""
        return self._needed_s + self.source.jitter_s

    def fed(self, now: float, seconds: float) -> None:
        """Note audio that is about to be fed."""
        self._flushed = False
        self.source.fed(now, seconds)

    def flush(self) -> None:
        """Note that a reply ends with what was fed so far."""
        self._flushed = True

    def finish(self) -> None:
        """Note that no more audio will come."""
        self._flushed = self._finished = True

    def pause_by(self, now: float) -> float:
        """Return by how much the pause of the speech that is fed now should grow, in seconds.

        It is negative where the pause should shrink, because the latency is larger than it must be.
        """
        if self._origin is None or not self._audio.open:
            return 0.0
        spare_s = self.due(self._planned) - self._ready_at(self._planned)
        if spare_s < 0.0:
            return -spare_s
        return min(0.0, _EXCESS_S - spare_s) if self.source.at_pace(now) else 0.0

    def paused_for(self, frames: int) -> None:
        """Note frames of silence that were put into a pause of the speech."""
        self.source.waited_for()
        self._report.waited(frames)

    def decide(self, now: float) -> tuple[list[Chunk], list[Chunk]]:
        """Return the chunks to request now, and those that are no longer wanted."""
        if self._origin is None:
            return [], []
        dropped = self._place(now)
        wanted: list[Chunk] = []
        while (chunk := self._next(now)) is not None:
            self._chunks.append(chunk)
            self._planned = chunk.end
            wanted.append(chunk)
        return wanted, dropped

    def interrupt(self, frame: int) -> list[Chunk]:
        """Drop all audio from a frame on; return the chunks that are no longer wanted."""
        self._audio.cut(frame)
        self._silence_follows()
        self._flushed, self._starved = True, False
        return self._drop_from(frame)

    def current(self) -> Chunk | None:
        """Return the chunk of the next frame; None if it is not decided on yet."""
        while self._chunks and self._chunks[0].end <= self.at:
            self._chunks.popleft()
        return self._chunks[0] if self._chunks else None

    @property
    def is_over(self) -> bool:
        """All frames were given."""
        return self._finished and not self._audio.waiting and self.at >= self._audio.end_frame

    def latest(self, chunk: Chunk) -> float:
        """Return until when a chunk's response is waited for, if nothing before it is late."""
        wait_s = max(0.0, self._options.stall_s - self._stalled_s)
        if chunk.idle and (self._audio.open or self._audio.waiting):
            wait_s = 0.0  # a reply must not wait for frames of the silence before it
        return self.due(max(chunk.start, self.at)) + GRACE_S + wait_s

    def came(self, chunk: Chunk, frames: Sequence[Any], now: float) -> None:
        """Note the response to a chunk, also to one that was given up."""
        self.share.answered(now, chunk.sent_at, chunk.deadline - chunk.sent_at)
        if chunk.frames is None:
            chunk.frames, chunk.done_at = frames, now

    def missed(self, chunk: Chunk, now: float) -> None:
        """Give a chunk up: its response is not there in time, or will never be."""
        chunk.frames, chunk.done_at = (), now

    def catch_up(self, chunk: Chunk) -> None:
        """Delay the current chunk and all that follows if its response was too late to make that good."""
        late_s = chunk.done_at - self.due(self.at)
        left_s = self._options.stall_s - self._stalled_s
        if min(late_s - GRACE_S, left_s) > 0:
            frames = math.ceil(min(late_s, left_s + GRACE_S) * FPS)
            self._delay(frames)
            self._stalled_s += frames / FPS
            self._report.stalled(frames)

    @property
    def _needed_s(self) -> float:
        """Audio that must be there when its first sample is played, if it comes at the pace of speech."""
        count = self._speed.chunk(self._options.chunk)
        return LOOK_AHEAD_S + (count - 1) / FPS + self._needs_s(count)

    def _needs_s(self, count: int) -> float:
        """Return the time before a chunk is due at which it must be requested."""
        return min(_LONGEST_S, self._speed.time_for(count)) + self._options.margin_s

    def _ready_at(self, frame: int) -> float:
        """Return when a frame of the open audio can be given such that the audio never runs out."""
        in_hand_s = self._audio.end / self._options.rate - frame / FPS
        return self.source.ready_at(in_hand_s, self._needed_s)

    def _frame_after(self, time: float) -> int:
        """Return the first frame that is not due before a time."""
        return math.ceil((time - self.due(0)) * FPS - _ROUNDING)

    def _place(self, now: float) -> list[Chunk]:
        """Place the audio that waits, if it can be played from then on without a break."""
        waiting = self._audio.waiting
        if self._audio.open or not waiting:
            return []
        in_hand_s = waiting / self._options.rate
        complete = self._flushed or self.source.is_over(now)
        if not complete and in_hand_s < LOOK_AHEAD_S:
            return []
        first = max(self.at, self._frame_after(now + self._needs_s(OPENING + 1)))
        frame = max(first + OPENING, self._audio.end_frame)
        if self.at == 0 and self._frame_after(now + self._needs_s(1)) <= 0:
            first = frame = 0  # nothing was given yet that the mouth could open from
        if not complete:
            ready_at = self.source.ready_at(in_hand_s, self._needed_s)
            frame = max(frame, self._frame_after(ready_at))
        silence = frame - self._audio.end_frame
        if self._starved and silence <= _COUNTED_S * FPS:
            self._report.waited(silence)
        self._starved = False
        self._audio.place(frame)
        self.reply_from = first
        return self._drop_from(first)

    def _next(self, now: float) -> Chunk | None:
        """Return the next chunk, if it is time to decide on it."""
        start, most = self._planned, self._options.chunk
        left_s = self.due(start) - now
        in_flight = sum(chunk.frames is None and not chunk.idle for chunk in self._chunks)
        if left_s > self._needs_s(most) + _AHEAD_S + self._stalled_s or (
            in_flight >= self.share.most_in_flight and left_s > 0
        ):
            return None
        if self._audio.open:
            least = self._speed.chunk(most)
            covered = self._audio.covered - start
            urgent = left_s < self._needs_s(1) + 1 / FPS
            if covered >= least or (covered > 0 and urgent and not self._starved):
                self._resume(start, min(covered, least), now)
                return self._speaking(start, min(covered, self._fitting(start, now)), now)
            paused = self._flushed or self.source.is_over(now) or self._audio.ends_quietly()
            if not (self._flushed or (urgent and paused)):
                self._starved = self._starved or urgent
                return None
            self._resume(start, least, now)
            self._starved = not self._flushed
            self._audio.close()
            self._silence_follows()
        if self._finished and not self._audio.waiting:
            most = min(most, self._audio.end_frame - start)
            if most <= 0:
                return None
        moving = self._audio.silent_from(start) - start
        if moving > 0:
            return self._speaking(start, min(moving, most, self._fitting(start, now)), now)
        if left_s > self._needs_s(self._options.chunk) + 1 / FPS:
            return None
        return self._idle(start, most, now)

    def _speaking(self, start: int, count: int, now: float) -> Chunk:
        """Return the chunk of frames that depend on audio, as far as there is time for it."""
        if self._audio.is_silent(start, count):
            return self._idle(start, count, now)
        chunk = Chunk(start, count, count, idle=False, sent_at=now)
        chunk.deadline = self.latest(chunk)
        in_time = chunk.deadline - now > self._needs_s(1) / 2
        chunk.wanted = self.share.granted(now, count) if in_time else 0
        if not chunk.wanted:
            self.missed(chunk, -math.inf)
        return chunk

    def _idle(self, start: int, count: int, now: float) -> Chunk:
        """Return a chunk of idle frames; they end at the same places each time round the loop."""
        index, most = self.loop_index(start), self._options.chunk
        count = min(count, most - index % most, self._idle_frames.period - index)
        chunk = Chunk(start, count, count, idle=True, sent_at=now)
        chunk.deadline = self.latest(chunk)
        kept = self._idle_frames.get(index, count)
        if kept is not None:
            chunk.frames, chunk.done_at = kept, -math.inf
        elif self.share.granted(now, count) < count:
            chunk.wanted = 0
            self.missed(chunk, -math.inf)
        return chunk

    def _fitting(self, start: int, now: float) -> int:
        """Return the most frames that are there in time if they are requested at once."""
        most = self._options.chunk
        queued_s = sum(
            self._speed.time_for(chunk.wanted) for chunk in self._chunks if chunk.frames is None
        )
        left_s = self.due(start) - now - queued_s
        count = self._speed.chunk(most)
        while count < most and self._speed.time_for(count + 1) <= left_s:
            count += 1
        return count

    def _resume(self, start: int, count: int, now: float) -> None:
        """Delay the frames from the next one on if audio was waited for."""
        if self._starved:
            self._starved = False
            ready_at = now + self._needs_s(count)
            if not self._flushed:
                ready_at = max(ready_at, self._ready_at(start))
            frames = math.ceil((ready_at - self.due(start)) * FPS - _ROUNDING)
            if frames > 0:
                self._delay(frames)
                self.source.waited_for()
                self._report.waited(frames)

    def _silence_follows(self) -> None:
        self.source.paused()
        self._stalled_s = 0.0

    def _delay(self, frames: int) -> None:
        assert self._origin is not None
        self._origin += frames / FPS

    def _drop_from(self, frame: int) -> list[Chunk]:
        """Forget the chunks from a frame on; return those of which nothing is left."""
        dropped = []
        while self._chunks and self._chunks[-1].end > frame:
            last = self._chunks[-1]
            if last.start < frame:
                last.count = frame - last.start
                break
            dropped.append(self._chunks.pop())
        self._planned = min(self._planned, frame)
        return dropped
