"""Speech to mel windows: the arithmetic of the `mel` model, without Triton.

A request names a slice of a clip and the video frames it wants. Everything is computed from
absolute sample and column numbers, so a slice gives exactly what the whole clip would.
The reference is SyncTalk_2D's inference in its `ave` audio mode.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from lipsync_spectrum import magnitudes, mel_filters
from numpy.typing import NDArray

SAMPLE_RATE = 16_000  # Hz
N_FFT = 800  # samples: the STFT's size and its (periodic Hann) window
HOP = 200  # samples: 80 columns a second
N_MELS = 80
MEL_LOW_HZ, MEL_HIGH_HZ = 55.0, 7600.0
PRE_EMPHASIS = 0.97
REF_DB, MIN_DB, MAX_NORM = 20.0, -100.0, 4.0
FLOOR = 1e-5  # amplitude under which a band counts as silent: -100 dB

WINDOW_COLUMNS = 16  # mel columns an embedding is made of: 0.2 s
FPS = 25
COLUMNS_A_SECOND = SAMPLE_RATE // HOP
CONTEXT_BEFORE, CONTEXT_AFTER = 8, 8  # embeddings a frame takes: i-8 ... i+7
LEVEL_REACH = 28  # columns to each side of a frame's middle whose level goes with it: 0.35 s
MIN_SAMPLES = (WINDOW_COLUMNS - 1) * HOP  # the shortest clip with 16 columns: 3000 samples

LIVE = -1  # CLIP_SAMPLES of a clip that is still being recorded
MAX_CLIP_SAMPLES = 2**40  # two years: past it the arithmetic of columns would leave int64
MAX_LOOP_OFFSET = 2**53
REASONS = ("empty", "not_finite", "out_of_range", "too_many_frames", "uncovered")


class RequestError(ValueError):
    """A mistake of the caller; the response is INVALID_ARG.

    Attributes:
        reason: one of REASONS, for the metrics.
    """

    def __init__(self, message: str, reason: str = "out_of_range") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class SliceLayout:
    """The parts of a clip that one request needs.

    Attributes:
        frame_start, frame_count: the wanted video frames.
        clip_samples: length of the clip after padding to MIN_SAMPLES, or None while live.
        raw_samples: length of the clip as sent, or None while live.
        first_column, last_column: mel columns needed, inclusive.
        starts: int64 [M], first column of each mel window needed.
        index: int64 [frame_count, 16], row into `starts` for each frame's context; -1 is a zero vector.
    """

    frame_start: int
    frame_count: int
    clip_samples: int | None
    raw_samples: int | None
    first_column: int
    last_column: int
    starts: NDArray[np.int64]
    index: NDArray[np.int64]

    @property
    def sample_range(self) -> tuple[int, int]:
        """Return the samples [begin, end) of the clip that the columns depend on.

        A column reaches N_FFT/2 to both sides of its centre; pre-emphasis needs one sample more.
        """
        begin = max(0, self.first_column * HOP - N_FFT // 2 - 1)
        end = self.last_column * HOP + N_FFT // 2
        return begin, end if self.raw_samples is None else min(end, self.raw_samples)


def clip_windows(samples: int) -> int:
    """Return the number F of mel windows of a clip; the clip has F + 2 video frames.

    The float expression is the reference's: it is not the integer floor (T - 16 = 368 gives 114, not 115).
    """
    columns = 1 + max(samples, MIN_SAMPLES) // HOP
    return int((columns - WINDOW_COLUMNS) / COLUMNS_A_SECOND * FPS) + 2


def live_frames(end: int) -> int:
    """Return the frames of a clip still being recorded whose whole context lies before sample `end`."""
    last_column = (end - N_FFT // 2) // HOP
    start = last_column - (WINDOW_COLUMNS - 1)
    if start < 0:
        return 0
    window = ((start + 1) * FPS - 1) // COLUMNS_A_SECOND  # the last j with int(3.2 j) <= start
    return max(0, window - (CONTEXT_AFTER - 2) + 1)


def lay_out(
    given: int,
    audio_start: int = 0,
    clip_samples: int | None = None,
    frame_start: int = 0,
    frame_count: int | None = None,
    *,
    max_frames: int,
) -> SliceLayout:
    """Check a request and return the layout of its slice.

    Args:
        given: samples in AUDIO.
        audio_start: index in the clip of the first of them.
        clip_samples: samples in the whole clip; None for audio_start + given; LIVE while recording.
        frame_start, frame_count: frames wanted; None for all that remain.
        max_frames: limit of a request.

    Raises:
        RequestError: the message says what was needed and what came.
    """
    if given == 0:
        raise RequestError(
            "AUDIO is empty: expected at least one sample of mono 16 kHz speech in -1..1",
            "empty",
        )
    if not 0 <= audio_start <= MAX_CLIP_SAMPLES:
        raise RequestError(
            f"AUDIO_START must be between 0 and {MAX_CLIP_SAMPLES}, got {audio_start}"
        )
    end = audio_start + given
    if clip_samples is None:
        clip_samples = end
    live = clip_samples == LIVE
    if not live and not end <= clip_samples <= MAX_CLIP_SAMPLES:
        raise RequestError(
            f"CLIP_SAMPLES must be -1 (still being recorded) or at least AUDIO_START + len(AUDIO) = {end}"
            f" and at most {MAX_CLIP_SAMPLES}, got {clip_samples}"
        )
    windows = None if live else clip_windows(clip_samples)
    total = live_frames(end) if windows is None else windows + 2
    if frame_start < 0:
        raise RequestError(f"FRAME_START must not be negative, got {frame_start}")
    if frame_count is None:
        frame_count = max(0, total - frame_start)
    elif frame_count < 1:
        raise RequestError(f"FRAME_COUNT must be at least 1, got {frame_count}")
    if not live and (frame_start >= total or frame_count > total - frame_start):
        raise RequestError(
            f"frames {frame_start}..{frame_start + frame_count - 1} were requested,"
            f" but a clip of {clip_samples} samples has {total} (0..{total - 1})"
        )
    if frame_count > max_frames:
        raise RequestError(
            f"{frame_count} frames were asked for, but one request gives at most {max_frames}: ask for slices"
            " with FRAME_START and FRAME_COUNT, or send the whole clip to the model `stream`",
            "too_many_frames",
        )
    if frame_count == 0:
        raise RequestError(
            f"the slice up to sample {end} holds the whole context of {total} frames, all before FRAME_START"
            f" {frame_start}: send more audio",
            "uncovered",
        )
    if frame_start > MAX_CLIP_SAMPLES:
        raise RequestError(f"FRAME_START must be at most {MAX_CLIP_SAMPLES}, got {frame_start}")

    # Entry e of the feature list is window e - 1; the first and the last stand twice (contract, step 7).
    frames = np.arange(frame_start, frame_start + frame_count, dtype=np.int64)
    entries = frames[:, None] + np.arange(-CONTEXT_BEFORE, CONTEXT_AFTER, dtype=np.int64)
    inside = entries >= 0
    window = np.maximum(entries - 1, 0)
    if windows is not None:
        inside &= entries <= windows + 1
        window = np.minimum(window, windows - 1)
    first, last = int(window[inside].min()), int(window[inside].max())
    index = np.where(inside, window - first, -1)
    starts = np.arange(first, last + 1, dtype=np.int64) * COLUMNS_A_SECOND // FPS
    padded = None
    if not live:
        padded = max(clip_samples, MIN_SAMPLES)
        starts = np.minimum(starts, padded // HOP + 1 - WINDOW_COLUMNS)

    layout = SliceLayout(
        frame_start=frame_start,
        frame_count=frame_count,
        clip_samples=padded,
        raw_samples=None if live else clip_samples,
        first_column=int(starts[0]),
        last_column=int(starts[-1]) + WINDOW_COLUMNS - 1,
        starts=starts,
        index=index,
    )
    need_begin, need_end = layout.sample_range
    if audio_start > need_begin or end < need_end:
        raise RequestError(
            f"frames {frame_start}..{frame_start + frame_count - 1} need samples {need_begin}..{need_end - 1}"
            f" of the clip, but AUDIO holds {audio_start}..{end - 1}",
            "uncovered",
        )
    return layout


def levels(
    audio: NDArray[np.float32], audio_start: int, layout: SliceLayout
) -> NDArray[np.float32]:
    """Return the level of the audio around each frame, for the compositor's silence gate.

    Args:
        audio, audio_start, layout: as for MelWindows.

    Returns:
        float32 [frame_count, 57] in dB of full scale, -100 or more: the mean power of 12.5 ms of audio each,
        from 0.35 s before the frame's middle to 0.35 s after it. Beyond the clip's ends it is silent.
    """
    begin, end = layout.sample_range
    power = audio[begin - audio_start : end - audio_start].astype(np.float64) ** 2
    total = np.concatenate([[0.0], np.cumsum(power)])
    frames = np.arange(layout.frame_start, layout.frame_start + layout.frame_count, dtype=np.int64)
    middles = (2 * frames + 1) * COLUMNS_A_SECOND // (2 * FPS)
    columns = middles[:, None] + np.arange(-LEVEL_REACH, LEVEL_REACH + 1)
    first = np.clip(columns * HOP - HOP // 2 - begin, 0, power.size)
    last = np.clip(columns * HOP + HOP // 2 - begin, 0, power.size)
    mean = (total[last] - total[first]) / HOP
    return np.asarray(10.0 * np.log10(np.maximum(mean, 1e-10)), np.float32)


class MelWindows:
    """A function that computes mel windows, with its filter bank."""

    def __init__(self) -> None:
        filters = mel_filters(SAMPLE_RATE, N_FFT, N_MELS, MEL_LOW_HZ, MEL_HIGH_HZ)
        # Each filter reaches over a few bins, so it is summed over these alone. The product of whole matrices
        # would take BLAS, whose idle threads keep a core busy for 50 ms after each request.
        bands, self._bins = np.nonzero(filters)
        self._weights = filters[bands, self._bins].astype(np.float64)[:, None]
        self._first_bins = np.searchsorted(bands, np.arange(N_MELS))

    def __call__(
        self, audio: NDArray[np.float32], audio_start: int, layout: SliceLayout
    ) -> NDArray[np.float32]:
        """Return the mel windows of a slice.

        Args:
            audio: float32 [samples], mono, 16 kHz, -1..1.
            audio_start: index in the clip of audio[0].
            layout: of this slice.

        Returns:
            float32 [M, 1, 80, 16] in -4..4, one window for each of layout.starts.

        Raises:
            RequestError: a sample is not finite.
        """
        begin, end = layout.sample_range
        samples = audio[begin - audio_start : end - audio_start].astype(np.float64)
        if not np.isfinite(samples).all():
            at = begin + int(np.flatnonzero(~np.isfinite(samples))[0])
            raise RequestError(
                f"AUDIO must be finite, but sample {at} of the clip is NaN or infinite",
                "not_finite",
            )
        mel = self._columns(samples, begin, layout)
        offsets = layout.starts - layout.first_column
        windows = np.lib.stride_tricks.sliding_window_view(mel, WINDOW_COLUMNS, axis=1)[:, offsets]
        return np.ascontiguousarray(windows.transpose(1, 0, 2)[:, None], dtype=np.float32)

    def _columns(
        self, samples: NDArray[np.float64], begin: int, layout: SliceLayout
    ) -> NDArray[np.float64]:
        """Return the normalised mel columns [80, columns] from layout.first_column to layout.last_column."""
        low = layout.first_column * HOP - N_FFT // 2
        high = layout.last_column * HOP + N_FFT // 2
        # The clip from low - 1 to high, zero where it does not reach: the centred STFT's padding, the
        # silence after a very short clip, and the sample before the first, which pre-emphasis takes as 0.
        wave = np.zeros(high - low + 1)
        at = begin - (low - 1)
        wave[at : at + samples.size] = samples
        emphasised = wave[1:] - PRE_EMPHASIS * wave[:-1]
        if layout.clip_samples is not None and layout.clip_samples < high:
            emphasised[layout.clip_samples - low :] = 0.0  # the padding follows the pre-emphasis
        spectrum = magnitudes(emphasised, N_FFT, HOP)
        bands = np.add.reduceat(self._weights * spectrum[self._bins], self._first_bins, axis=0)
        decibels = 20.0 * np.log10(np.maximum(FLOOR, bands)) - REF_DB
        scaled = 2 * MAX_NORM * (decibels - MIN_DB) / -MIN_DB - MAX_NORM
        return np.asarray(np.clip(scaled, -MAX_NORM, MAX_NORM))
