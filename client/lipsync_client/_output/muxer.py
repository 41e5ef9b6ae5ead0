"""Video and audio in one container, in step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from .._errors import LipSyncError, OutputError
from ..protocol import FPS
from .formats import ContainerSpec
from .pipe import Pipe
from .tracks import AudioTrack, Packet, VideoTrack, end_time, start_time

_AAC_FRAME = 1024  # samples
_UNBOUNDED_S = 3600  # longer than any packet


class Muxer:
    """A container that takes frames and audio as they come; both begin at time 0.

    The audio is written as far as the video has come. It ends less than a frame and an AAC frame after
    the video. (The contract's count of frames leaves the last 27 to 77 ms of a clip without a frame.)

    Args:
        target: a file, which is written in place, a network address, or a pipe.
        spec: the container.
        video: the video track.
        audio: the audio track.
    """

    def __init__(
        self, target: Path | str | Pipe, spec: ContainerSpec, video: VideoTrack, audio: AudioTrack
    ) -> None:
        self._name = str(target)
        self._video, self._audio = video, audio
        self._container = av.open(
            target if isinstance(target, Pipe) else str(target), "w",
            format=spec.muxer, options=dict(spec.muxer_options),
        )  # fmt: skip
        self._context = audio.begin(self._container).codec_context
        self._keeps_delay = spec.delay == "edits" or (
            spec.delay == "header" and audio.delay_in_header
        )
        self._frames = 0

    def write(self, frames: NDArray[np.generic] | list[bytes | None]) -> None:
        """Write frames in the form that the video track takes."""
        if len(frames) and not self._frames:
            self._video.begin(self._container, frames[0])
        for frame in frames:
            self._mux(self._audio.packets(self._end_s))
            self._mux(self._video.packets([frame]))
            self._frames += 1

    def close(self) -> None:
        """Finish the file."""
        self._audio.flush(self._end_s)
        self._mux(self._audio.packets(self._end_s))
        self._mux(self._video.flush())
        self._mux(self._audio_after_the_video())
        try:
            self._container.close()
        except (av.FFmpegError, OSError) as e:
            raise self._failure(e) from e

    def abort(self) -> None:
        """Close a file that will be deleted."""
        try:
            self._container.close()
        except (av.FFmpegError, OSError, LipSyncError):
            return  # the error that led here has been raised already

    @property
    def _end_s(self) -> Fraction:
        """The end of the video in seconds."""
        return Fraction(self._frames, FPS)

    def _audio_after_the_video(self) -> Iterator[Packet]:
        """Yield the audio packets beyond the end of the video, as far as they may go."""
        limit = Fraction(1, FPS) + Fraction(_AAC_FRAME, self._context.sample_rate)
        nominal = Fraction(self._context.frame_size or 0, self._context.sample_rate)
        for packet in self._audio.packets(self._end_s + _UNBOUNDED_S):
            start = start_time(packet) - self._end_s
            # An encoder's last packet states how much of it belongs to the clip; some players play all of it.
            end = max(end_time(packet) - self._end_s, start + nominal)
            # A long packet (FLAC) that ends too late is left out only if that loses less than it saves.
            if end >= limit and end > -start:
                return
            yield packet

    def _mux(self, packets: Iterable[Packet]) -> None:
        try:
            for packet in packets:
                # A container that cannot mark the delay as skipped would shift everything else by it.
                if self._keeps_delay or packet.pts is None or packet.pts >= 0:
                    self._container.mux(packet)
        except (av.FFmpegError, OSError) as e:
            raise self._failure(e) from e

    def _failure(self, e: av.FFmpegError | OSError) -> OutputError:
        return OutputError(f"{self._name} cannot be written: {e.strerror or e}")
