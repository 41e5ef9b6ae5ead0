"""An audio track encoded from the clip's samples."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Literal

import av
import numpy as np
from av.container import OutputContainer

from .tracks import Packet, end_time

# Sample rates of the encoders in Hz; audio at any other rate is resampled to 48 kHz.
_RATES = {
    "aac": (
        7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000,
    ),
    "libopus": (48000,),  # Opus has others, but is always decoded at this one
}  # fmt: skip
_FALLBACK_RATE = 48_000
_LAYOUTS = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1", "7.1")
_BIT_RATE_PER_CHANNEL = {"aac": 96_000, "libopus": 64_000}


class EncodedAudio:
    """AAC or Opus, encoded as the samples are read, so that memory does not grow with the clip.

    Args:
        encoder: FFmpeg's name of the encoder.
        sample_rate: sample rate of the clip in Hz.
        layout: channel layout of the clip, FFmpeg's name.
    """

    delay_in_header = True

    def __init__(self, encoder: Literal["aac", "libopus"], sample_rate: int, layout: str) -> None:
        self._encoder = encoder
        self._rate = sample_rate if sample_rate in _RATES[encoder] else _FALLBACK_RATE
        self._layout = layout if layout in _LAYOUTS else "stereo"
        self._source = (sample_rate, layout)
        self._resampler: av.AudioResampler | None = None
        self._resampled: tuple[int, str] = self._source
        self._samples = 0  # taken so far, at the clip's rate
        self._ready: deque[Packet] = deque()

    def begin(self, container: OutputContainer) -> av.AudioStream:
        stream = container.add_stream(self._encoder, rate=self._rate)
        assert isinstance(stream, av.AudioStream)
        stream.layout = self._layout
        stream.bit_rate = _BIT_RATE_PER_CHANNEL[self._encoder] * len(stream.layout.channels)
        self._stream = stream
        return stream

    def add_frame(self, frame: av.AudioFrame) -> None:
        properties = (frame.sample_rate, frame.layout.name)
        if properties != self._resampled:  # the clip's rate or layout changed
            self._flush_resampler()
            rate, layout = self._source
            self._resampled = properties
            if properties != self._source:
                self._resampler = av.AudioResampler("fltp", layout, rate)
        if self._resampler is None:
            self._encode(frame)
            return
        frame.pts = None
        for part in self._resampler.resample(frame):
            self._encode(part)

    def packets(self, end_s: Fraction) -> Iterator[Packet]:
        while self._ready and end_time(self._ready[0]) <= end_s:
            yield self._ready.popleft()

    def flush(self, end_s: Fraction) -> None:
        self._flush_resampler()
        rate, layout = self._source
        missing = int(end_s * rate) - self._samples
        if missing > 0:  # a very short clip, whose video is longer than its audio
            channels = len(av.AudioLayout(layout).channels)
            silence = np.zeros((channels, missing), np.float32)
            frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout=layout)
            frame.sample_rate = rate
            self._encode(frame)
        self._ready.extend(self._stream.encode(None))

    def _flush_resampler(self) -> None:
        if self._resampler is not None:
            for part in self._resampler.resample(None):
                self._encode(part)
            self._resampler = None

    def _encode(self, frame: av.AudioFrame) -> None:
        frame.pts, frame.time_base = self._samples, Fraction(1, frame.sample_rate)
        self._samples += frame.samples
        self._ready.extend(self._stream.encode(frame))
