"""The audio of any audio or video file: as it is for the output, mono at 16 kHz for the server."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import soxr
from numpy.typing import NDArray

from ._errors import InputError
from .protocol import SAMPLE_RATE

Samples = NDArray[np.float32]


class AudioFile:
    """A file that is read block by block, with memory that does not depend on its length.

    Channels are averaged first, then resampled with soxr HQ, and the length is
    ceil(samples * 16000 / rate): sample for sample what librosa.load(sr=16000) returns.

    Args:
        path: anything that FFmpeg's libraries can read.
        on_frame: called with every decoded frame: float32, planar, the file's own rate and channels.

    Attributes:
        sample_rate: in Hz.
        layout: name of the channel layout.
        codec: FFmpeg's name of the codec.

    Raises:
        InputError: the file is missing, cannot be read as audio, or has no audio track.
    """

    def __init__(
        self, path: str | Path, on_frame: Callable[[av.AudioFrame], None] | None = None
    ) -> None:
        self.path = Path(path)
        self._on_frame = on_frame
        if not self.path.exists():
            raise InputError(f"{path}: no such file")
        if self.path.is_dir():
            raise InputError(f"{path}: expected an audio or video file, got a directory")
        try:
            self._container = av.open(str(path))
        except (av.FFmpegError, OSError) as e:
            reason = e.strerror or str(e)
            raise InputError(
                f"{path}: expected an audio or video file, but it cannot be read as one ({reason})"
            ) from e
        streams = self._container.streams.audio
        if not streams:
            self._container.close()
            raise InputError(f"{path}: expected an audio track, but this file has none")
        self._stream = streams[0]
        self.sample_rate = self._stream.codec_context.sample_rate
        self.layout = self._layout()
        self.codec = self._stream.codec_context.codec.canonical_name
        if not self.sample_rate:
            self._container.close()
            raise InputError(f"{path}: the audio has no sample rate")

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    @property
    def estimated_samples(self) -> int | None:
        """Length in samples at 16 kHz according to the file's header; None if it does not say."""
        if self._stream.duration and self._stream.time_base:
            return int(self._stream.duration * self._stream.time_base * SAMPLE_RATE)
        duration = self._container.duration
        return None if duration is None else int(duration / 1e6 * SAMPLE_RATE)

    def blocks(self) -> Iterator[Samples]:
        """Yield the clip block by block: float32 (n,), mono, 16 kHz, -1..1.

        Raises:
            InputError: the audio is empty, or cannot be decoded.
        """
        resampler = None
        if self.sample_rate != SAMPLE_RATE:
            resampler = soxr.ResampleStream(
                self.sample_rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ"
            )
        taken = given = 0
        for block in self._mono():
            taken += block.size
            out = block if resampler is None else resampler.resample_chunk(block)
            given += out.size
            yield out
        if taken == 0:
            raise InputError(f"{self.path}: the audio in this file is empty")
        rest = np.zeros(0, np.float32)
        if resampler is not None:
            rest = resampler.resample_chunk(rest, last=True)
        missing = math.ceil(taken * (SAMPLE_RATE / self.sample_rate)) - given
        if missing > 0:
            yield np.pad(rest[:missing], (0, max(0, missing - rest.size)))

    def _layout(self) -> str:
        """Return the name of the channel layout; the usual one if the file states no more than a number."""
        layout = self._stream.codec_context.layout
        return {1: "mono", 2: "stereo"}.get(len(layout.channels), layout.name)

    def _mono(self) -> Iterator[Samples]:
        """Yield decoded blocks, channels averaged, at the file's own rate."""
        planar = av.AudioResampler(format="fltp", layout=self.layout, rate=self.sample_rate)
        try:
            for frame in self._container.decode(self._stream):
                frame.pts = None  # the samples follow one another, whatever the file's clock says
                for part in planar.resample(frame):
                    if self._on_frame is not None:
                        self._on_frame(part)
                    yield part.to_ndarray().mean(axis=0, dtype=np.float32)
        except av.FFmpegError as e:
            raise InputError(f"{self.path}: the audio cannot be decoded ({e.strerror})") from e


class ClipWindow:
    """The part of a clip that is still needed, read when it is needed.

    Attributes:
        total: length of the clip in samples; None until its end has been read.
    """

    def __init__(self, blocks: Iterator[Samples]) -> None:
        self._blocks = blocks
        self._samples = np.zeros(0, np.float32)
        self._start = 0
        self.total: int | None = None

    def read_to(self, end: int) -> None:
        """Read until sample `end` has been read, or the clip ends."""
        parts = [self._samples]
        have = self._start + self._samples.size
        while self.total is None and have < end:
            block = next(self._blocks, None)
            if block is None:
                self.total = have
                break
            parts.append(block)
            have += block.size
        if len(parts) > 1:
            self._samples = np.concatenate(parts)

    def slice(self, begin: int, end: int) -> Samples:
        """Return the samples [begin, end), and forget those before `begin`."""
        self._samples = self._samples[begin - self._start :]
        self._start = begin
        return self._samples[: end - begin]
