"""Access units and sound into MP4, without touching a pixel."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from ._errors import OutputError, ServerError
from ._timeline import FPS

# What AAC can be sampled at; anything else is resampled to the last.
_AAC_RATES = (
    7350,
    8000,
    11025,
    12000,
    16000,
    22050,
    24000,
    32000,
    44100,
    64000,
    88200,
    96000,
    48000,
)
_AAC_LAYOUTS = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1", "7.1")
_AAC_BITS_A_CHANNEL = 96_000


class Mp4Writer:
    """Writes H.264 access units as they come, and AAC made of the clip's own sound.

    Both streams begin at 0. The sound is encoded as it is read, so memory does not grow with the clip.

    Args:
        path: the file, written in place.
        sample_rate, layout: of the sound.
    """

    def __init__(self, path: Path, sample_rate: int, layout: str) -> None:
        self._path = path
        # The index goes to the front at the end, so that a player may start before it has it all.
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        self._video: Any = None
        self._frames = 0
        rate = sample_rate if sample_rate in _AAC_RATES else _AAC_RATES[-1]
        self._audio: Any = self._container.add_stream("aac", rate=rate)
        self._audio.layout = layout if layout in _AAC_LAYOUTS else "stereo"
        self._audio.bit_rate = _AAC_BITS_A_CHANNEL * len(self._audio.layout.channels)
        self._samples = 0
        self._held: list[
            Any
        ] = []  # sound that came before the first picture told us the video's header

    def sound(self, frame: av.AudioFrame) -> None:
        """Add sound: float planar frames, in order."""
        frame.pts, frame.time_base = self._samples, Fraction(1, frame.sample_rate)
        self._samples += frame.samples
        self._write(self._audio.encode(frame))

    def pictures(self, units: Any) -> None:
        """Add access units, bytes, one a frame, Annex B; the first of each call begins with an IDR."""
        for n, unit in enumerate(units):
            if self._video is None:
                self._begin(unit)
            packet = av.Packet(unit)
            packet.stream, packet.time_base = self._video, Fraction(1, FPS)
            packet.pts = packet.dts = self._frames
            packet.duration = 1
            packet.is_keyframe = n == 0
            self._frames += 1
            self._write([packet])

    def close(self) -> None:
        """Finish the file."""
        try:
            self._write(self._audio.encode(None))
            self._container.close()
        except (av.FFmpegError, OSError) as e:
            raise OutputError(f"{self._path} cannot be written: {e.strerror or e}") from e

    def abort(self) -> None:
        """Let go of a file that will be thrown away."""
        try:
            self._container.close()
        except (av.FFmpegError, OSError):
            return  # it failed before, and said why then

    def _begin(self, unit: bytes) -> None:
        try:
            with av.open(io.BytesIO(unit), format="h264") as probe:
                self._video = self._container.add_stream_from_template(probe.streams.video[0])
        except (av.FFmpegError, IndexError) as e:
            raise ServerError("the server's H264 does not begin with a decodable picture") from e
        self._video.time_base = Fraction(1, FPS)
        held, self._held = self._held, []
        self._write(held)

    def _write(self, packets: Any) -> None:
        if self._video is None:
            self._held.extend(packets)
            return
        try:
            for packet in packets:
                self._container.mux(packet)
        except (av.FFmpegError, OSError) as e:
            raise OutputError(f"{self._path} cannot be written: {e.strerror or e}") from e
