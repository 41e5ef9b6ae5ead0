"""A clip that is read block by block."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np

from .._errors import InputError
from ..protocol import SAMPLE_RATE
from .clip import Samples
from .decoder import Decoder
from .resampler import Resampler
from .track import Track, layout_name

_LOGGER = logging.getLogger("lipsync_client")
_LARGEST_SAMPLE = 1e5  # of float files; the usual range is -1..1, and some hold 16-bit values
_MOST_WARNINGS = 5  # more of them are counted only


class AudioFile:
    """The audio of any audio or video file, read with memory that does not depend on its length.

    Channels are averaged first, then resampled with soxr HQ, and the length is
    ceil(samples * 16000 / rate): sample for sample what librosa.load(sr=16000) returns.

    Silence takes the place of what cannot be decoded, and a warning with the time is logged to the logger
    `lipsync_client`. A sample rate or channel layout that changes is followed.

    Args:
        path: anything that FFmpeg's libraries can read.
        track: number of the audio track, from 1; None for the one that is marked as default, or the first.
        strict: refuse a file of which anything cannot be decoded. It is decoded twice then.
        on_frame: called with every decoded frame: float32, planar, the file's own rate and channels.

    Attributes:
        path: the file.
        track: the number given.
        sample_rate: at the beginning of the file, in Hz.
        layout: name of the channel layout at the beginning of the file.
        codec: FFmpeg's name of the codec.
        profile: FFmpeg's name of the codec's profile, None if it has none.
        warnings: the warnings so far.

    Raises:
        InputError: the file is missing, cannot be read as audio, has no such audio track, or is damaged
            and `strict`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        track: int | None = None,
        strict: bool = False,
        on_frame: Callable[[av.AudioFrame], None] | None = None,
    ) -> None:
        self.path, self.track = Path(path), track
        self.warnings: list[str] = []
        if strict:
            check_undamaged(self.path, track)
        self._on_frame = on_frame
        self._track = Track(self.path, track)
        context = self._track.stream.codec_context
        self.sample_rate, self.layout = context.sample_rate, layout_name(context)
        self.codec, self.profile = context.codec.canonical_name, context.profile

    def close(self) -> None:
        """Close the file."""
        self._track.close()

    @property
    def estimated_samples(self) -> int | None:
        """Length in samples at 16 kHz according to the file's header; None if it does not say."""
        stream = self._track.stream
        if stream.duration and stream.time_base:
            return int(stream.duration * stream.time_base * SAMPLE_RATE)
        duration = self._track.container.duration
        return None if duration is None else int(duration / 1e6 * SAMPLE_RATE)

    def blocks(self) -> Iterator[Samples]:
        """Yield the clip block by block: float32 (n,), mono, 16 kHz, -1..1.

        Raises:
            InputError: nothing can be decoded, or a sample is not finite.
        """
        if self._track.description is not None and self.track is None:
            _LOGGER.info(
                "%s: %s is read; --track chooses another", self.path, self._track.description
            )
        decoder = Decoder(self._track)
        resampler: Resampler | None = None
        for frame in decoder.frames():
            self._warn(decoder)
            mono = frame.to_ndarray().mean(axis=0, dtype=np.float32)
            self._check_range(mono, decoder, frame)
            if self._on_frame is not None:
                self._on_frame(frame)
            if resampler is None or resampler.rate != frame.sample_rate:
                if resampler is not None:
                    yield resampler.flush()
                resampler = Resampler(frame.sample_rate)
            yield resampler.push(mono)
        self._warn(decoder)
        if not decoder.formats:
            _raise_empty(self.path, decoder)
        assert resampler is not None
        yield resampler.flush()
        more = len(decoder.damage) - _MOST_WARNINGS
        if more > 0:
            self._log(f"{self.path}: {more} more parts are damaged")

    def _warn(self, decoder: Decoder) -> None:
        for damage in decoder.damage[len(self.warnings) : _MOST_WARNINGS]:
            self._log(f"{self.path}: {damage.text}")

    def _log(self, text: str) -> None:
        self.warnings.append(text)
        _LOGGER.warning("%s", text)

    def _check_range(self, mono: Samples, decoder: Decoder, frame: av.AudioFrame) -> None:
        bad = np.flatnonzero(~(np.abs(mono) <= _LARGEST_SAMPLE))  # NaN too
        if bad.size:
            time = float(decoder.end_s) - (mono.size - bad[0]) / frame.sample_rate
            raise InputError(
                f"{self.path}: the audio must be finite, between -1 and 1; the sample at {time:.3f} s is"
                f" {mono[bad[0]]:g}. Remove it or re-encode the file"
            )


def check_undamaged(path: Path, track: int | None) -> Decoder:
    """Decode a whole track and return the decoder after its last frame.

    Raises:
        InputError: a part of it cannot be decoded.
    """
    opened = Track(path, track)
    try:
        if not path.is_file():
            raise InputError(f"{path}: only a regular file can be checked for damage")
        decoder = Decoder(opened)
        for _ in decoder.frames():
            if decoder.damage:
                break
    finally:
        opened.close()
    if not decoder.formats:
        _raise_empty(path, decoder)
    if decoder.damage:
        raise InputError(
            f"{path}: {decoder.damage[0].text}. Replace or re-encode the file, or render it without strict"
        )
    return decoder


def _raise_empty(path: Path, decoder: Decoder) -> None:
    if decoder.damage:
        raise InputError(f"{path}: nothing of the audio can be decoded: {decoder.damage[0].text}")
    raise InputError(f"{path}: the audio in this file is empty")
