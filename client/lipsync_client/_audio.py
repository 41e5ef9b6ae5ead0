"""Any audio or video file as a stream: its own sound for the output, mono 16 kHz for the server."""

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
    """Reads a file block by block, with memory that does not depend on its length.

    Channels are averaged first, then resampled with soxr HQ, and the length is
    ceil(samples * 16000 / rate): sample for sample what librosa.load(sr=16000) gives.

    Args:
        path: anything FFmpeg's libraries can read.
        on_frame: gets every decoded frame, float planar, at the file's own rate and channels.

    Raises:
        InputError: the file is missing, is no audio, or has no sound in it.
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
            raise InputError(f"{path}: there is no sound in this file, only other streams")
        self._stream = streams[0]
        self.sample_rate = self._stream.codec_context.sample_rate
        self.layout = self._layout()
        self.codec = self._stream.codec_context.codec.canonical_name
        if not self.sample_rate:
            self._container.close()
            raise InputError(f"{path}: the sound has no sample rate")

    def close(self) -> None:
        self._container.close()

    @property
    def estimated_samples(self) -> int | None:
        """Length at 16 kHz as the file's header claims; None if it does not say."""
        if self._stream.duration and self._stream.time_base:
            return int(self._stream.duration * self._stream.time_base * SAMPLE_RATE)
        duration = self._container.duration
        return None if duration is None else int(duration / 1e6 * SAMPLE_RATE)

    def blocks(self) -> Iterator[Samples]:
        """The clip as mono 16 kHz float32 in -1..1, block by block."""
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
            raise InputError(f"{self.path}: the sound in this file is empty")
        rest = np.zeros(0, np.float32)
        if resampler is not None:
            rest = resampler.resample_chunk(rest, last=True)
        missing = math.ceil(taken * (SAMPLE_RATE / self.sample_rate)) - given
        if missing > 0:
            yield np.pad(rest[:missing], (0, max(0, missing - rest.size)))

    def _layout(self) -> str:
        """Name of the channel layout; a file that does not say which is where gets the usual one."""
        layout = self._stream.codec_context.layout
        return {1: "mono", 2: "stereo"}.get(len(layout.channels), layout.name)

    def _mono(self) -> Iterator[Samples]:
        """Decoded blocks, channels averaged, at the file's own rate."""
        planar = av.AudioResampler(format="fltp", layout=self.layout, rate=self.sample_rate)
        try:
            for frame in self._container.decode(self._stream):
                frame.pts = None  # gaps and edits in the file's clock are not ours to keep
                for part in planar.resample(frame):
                    if self._on_frame is not None:
                        self._on_frame(part)
                    yield part.to_ndarray().mean(axis=0, dtype=np.float32)
        except av.FFmpegError as e:
            raise InputError(f"{self.path}: the sound cannot be decoded ({e.strerror})") from e


class ClipWindow:
    """The part of a clip that is still needed, read on demand.

    Attributes:
        total: length of the clip in samples once its end has been read, else None.
    """

    def __init__(self, blocks: Iterator[Samples]) -> None:
        self._blocks = blocks
        self._samples = np.zeros(0, np.float32)
        self._start = 0
        self.total: int | None = None

    def read_to(self, end: int) -> None:
        """Read until sample `end` is there, or the clip ends."""
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
        """Samples [begin, end); what lies before `begin` is let go."""
        self._samples = self._samples[begin - self._start :]
        self._start = begin
        return self._samples[: end - begin]
