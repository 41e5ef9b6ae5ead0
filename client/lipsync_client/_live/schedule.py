"""The decisions of a live session: time and audio in, requests and frames out; no clock and no I/O.

Every frame has a number, a place in the avatar's loop and a time at which it is due. What it shows follows
from the audio around it, so frames are requested in chunks as soon as that audio is there, and again when it
changes: at an interruption, and when a reply begins after silence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import protocol
from ..protocol import FPS
from .audio import LEAD, LiveAudio
from .chunk import Chunk, Chunks
from .idle import IdleFrames
from .options import LiveOptions
from .report import LiveReport
from .server_share import ServerShare
from .server_speed import ServerSpeed
from .source_pace import SourcePace
from .timeline import GRACE_S, Timeline

# Audio that the models need after a frame's own beginning.
LOOK_AHEAD_S = (protocol.live_end(LEAD) - LEAD * protocol.SAMPLES_PER_FRAME) / protocol.SAMPLE_RATE
OPENING = 2  # frames, at least, in which the mouth opens before the first sample of a reply
_AHEAD_S = 0.1  # speech is requested so long before the server must begin with it
_LONGEST_S = 0.5  # that is planned for a response: a server that takes longer is overloaded
_EXCESS_S = 0.06  # of latency; pauses of the speech are shortened beyond it
_COUNTED_S = 1.0  # a longer silence is a pause of the source, not one that it was waited for
_ROUNDING = 1e-6  # frames


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
        times: at which the frames are due.
        at: number of the next frame to give.
        reply_from: number of the first frame whose mouth moves for the audio that was placed last.
        abandoned: requests in flight whose frames are no longer wanted.
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
        self.times = Timeline(options.stall_s, report)
        self.at = self.reply_from = self.abandoned = 0
        self._options, self._audio, self._speed, self._report = options, audio, speed, report
        self._idle_frames, self._loop_offset = idle_frames, loop_offset
        self._chunks = Chunks()
        self._last = 0  # frames to give at least before the session ends
        self._flushed = self._finished = self._starved = False

    @property
    def preparation_s(self) -> float:
        """Time to leave between now and frame 0."""
        return self._needs_s(self._options.chunk) if self._audio.waiting else 0.0

    def loop_index(self, frame: int) -> int:
        """Return a frame's place in the avatar's loop."""
        return (self._loop_offset + frame) % self._idle_frames.period

    def idle_range(self, frame: int) -> tuple[int, int]:
        """Return the loop index of a frame, and how many frames are requested from there on."""
        index = self.loop_index(frame)
        return index, self._idle_frames.count_at(index, self._options.chunk)

    @property
    def latency_s(self) -> float:
        """From a sample to its frame, for audio at the pace of speech that begins now."""
        return self._needed_s + self.source.jitter_s

    def fed(self, now: float, seconds: float) -> None:
        """Note audio that is about to be fed."""
        self._flushed = False
        self.source.fed(now, seconds)

    def flush(self) -> None:
        """Note that a reply ends with what was fed so far; a frame that ends it is yet to be given."""
        self._flushed, self._last = True, self.at + 1

    def finish(self) -> None:
        """Note that no more audio will come."""
        self._flushed = self._finished = True

    def pause_by(self, now: float) -> float:
        """Return by how much the pause of the speech that is fed now should grow, in seconds.

        It is negative where the pause should shrink, because the latency is larger than it must be.
        """
        if not (self.times.begun and self._audio.open):
            return 0.0
        spare_s = self.times.due(self._chunks.end) - self._ready_at(self._chunks.end)
        if spare_s < 0.0:
            return -spare_s
        return min(0.0, _EXCESS_S - spare_s) if self.source.at_pace(now) else 0.0

    def paused_for(self, frames: int) -> None:
        """Note frames of silence that were put into a pause of the speech."""
        self.source.waited_for()
        self._report.waited(frames)

    def place(self, now: float) -> list[Chunk]:
        """Place the audio that waits, if it can be played without a break; return the chunks to abandon."""
        in_hand_s = self._audio.waiting / self._options.rate
        if not self.times.begun or self._audio.open or not in_hand_s:
            return []
        complete = self._flushed or self.source.is_over(now)
        if not complete and in_hand_s < LOOK_AHEAD_S:
            return []
        ready_at = now + min(_LONGEST_S, self._speed.queue_s(now))
        first = max(self.at, self.times.frame_after(ready_at + self._needs_s(OPENING + 1)))
        frame = max(first + OPENING, self._audio.end_frame)
        if self.at == 0 and self.times.frame_after(ready_at + self._needs_s(1)) <= 0:
            first = frame = 0  # nothing was given yet that the mouth could open from
        if not complete:
            ready_at = self.source.ready_at(in_hand_s, self._needed_s)
            frame = max(frame, self.times.frame_after(ready_at))
        silence = frame - self._audio.end_frame
        if self._starved and silence <= _COUNTED_S * FPS:
            self._report.waited(silence)
        self._starved = False
        self._audio.place(frame)
        self.reply_from = first
        return self._chunks.drop_from(first)

    @property
    def rests_until(self) -> float:
        """Time before which nothing is decided, unless audio or a response comes."""
        if not self.times.begun or self._audio.open or self._audio.waiting:
            return -math.inf
        return self.times.due(self._chunks.end) - self._needs_s(self._options.chunk) - 1 / FPS

    def next(self, now: float) -> Chunk | None:
        """Return the next chunk to request, if it is time to decide on it."""
        chunk = self._next(now) if self.times.begun else None
        if chunk is not None:
            self._chunks.add(chunk)
        return chunk

    def interrupt(self, frame: int) -> list[Chunk]:
        """Drop all audio from a frame on; return the chunks that are no longer wanted."""
        self._audio.cut(frame)
        self._silence_follows()
        self._flushed, self._starved = True, False
        return self._chunks.drop_from(frame)

    def current(self) -> Chunk | None:
        """Return the chunk of the next frame; None if it is not decided on yet."""
        return self._chunks.at(self.at)

    @property
    def is_over(self) -> bool:
        return self._finished and not self._audio.waiting and self.at >= self._end

    def latest(self, chunk: Chunk) -> float:
        """Return until when a chunk's response is waited for, if nothing before it is late."""
        speaks = self._audio.open or self._audio.waiting
        # A reply must not wait for frames of the silence before it.
        wait_s = GRACE_S if chunk.idle and speaks else GRACE_S + self.times.left_s
        return self.times.due(max(chunk.start, self.at)) + wait_s

    def came(self, chunk: Chunk, frames: Sequence[Any], now: float) -> None:
        """Note the response to a chunk, also to one that was given up."""
        if chunk.idle:  # it may be requested late, and no session asks for many
            self.share.heard()
        else:
            self.share.answered(now, chunk.sent_at, chunk.deadline - chunk.sent_at)
        if chunk.frames is None:
            chunk.frames, chunk.done_at = frames, now

    @property
    def _end(self) -> int:
        """End of the session, if no more audio comes."""
        return max(self._audio.end_frame, self._last)

    @property
    def _needed_s(self) -> float:
        """Audio that must be there when its first sample is played, if it comes at the pace of speech."""
        count = self._speed.chunk(self._options.chunk)
        return LOOK_AHEAD_S + (count - 1) / FPS + self._needs_s(count)

    def _needs_s(self, count: int) -> float:
        """Return how long before it is due a chunk must be requested."""
        return min(_LONGEST_S, self._speed.time_for(count)) + self._options.margin_s

    def _ready_at(self, frame: int) -> float:
        """Return when a frame of the open audio can be given such that the audio never runs out."""
        in_hand_s = self._audio.end / self._options.rate - frame / FPS
        return self.source.ready_at(in_hand_s, self._needed_s)

    def _next(self, now: float) -> Chunk | None:
        """Return the next chunk, if it is time to decide on it."""
        start, most = self._chunks.end, self._options.chunk
        left_s = self.times.due(start) - now
        if left_s > self._needs_s(most) + _AHEAD_S + self.times.stalled_s:
            return None
        if self._chunks.in_flight + self.abandoned >= self.share.most_in_flight and left_s > 0:
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
            most = min(most, self._end - start)
            if most <= 0:
                return None
        moving = self._audio.silent_from(start) - start
        if moving > 0:
            return self._speaking(start, min(moving, most, self._fitting(start, now)), now)
        if now < self.rests_until:
            return None
        rest = None if self._finished else self._idle_frames.rest(self.loop_index(start), most)
        return self._kept(start, rest, now) if rest else self._idle(start, most, now)

    def _speaking(self, start: int, count: int, now: float) -> Chunk | None:
        """Return the chunk of frames that depend on audio, as far as there is time for it."""
        if self._audio.is_silent(start, count):
            return self._idle(start, count, now)
        chunk = Chunk(start, count, count, idle=False, sent_at=now)
        chunk.deadline = self.latest(chunk)
        in_time = chunk.deadline - now > self._needs_s(1) / 2
        chunk.wanted = self.share.granted(now, count) if in_time else 0
        if not chunk.wanted:
            chunk.miss(-math.inf)
        return chunk

    def _idle(self, start: int, count: int, now: float) -> Chunk | None:
        """Return a chunk of idle frames; None while many are requested and there is time to wait for them."""
        index, most = self.idle_range(start)  # the grid of the requests is the same in each round
        count = min(count, most)
        if (kept := self._idle_frames.get(index, count)) is not None:
            return self._kept(start, kept, now)
        chunk = Chunk(start, count, count, idle=True, sent_at=now)
        chunk.deadline = self.latest(chunk)
        if not self._idle_frames.can_fetch(index, count):
            if now < self.times.due(start) + GRACE_S:
                return None
            chunk.miss(-math.inf)
        return chunk

    def _kept(self, start: int, frames: Sequence[Any], now: float) -> Chunk:
        count = len(frames)
        return Chunk(start, count, count, idle=True, sent_at=now, done_at=-math.inf, frames=frames)

    def _fitting(self, start: int, now: float) -> int:
        """Return the most frames that are there in time if they are requested at once."""
        most = self._options.chunk
        left_s = self.times.due(start) - now - self._speed.queue_s(now)
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
            frames = math.ceil((ready_at - self.times.due(start)) * FPS - _ROUNDING)
            if frames > 0:
                self.times.delay(frames)
                self.source.waited_for()
                self._report.waited(frames)

    def _silence_follows(self) -> None:
        self.source.paused()
        self.times.stalled_s = 0.0
