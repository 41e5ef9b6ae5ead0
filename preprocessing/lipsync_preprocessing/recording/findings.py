"""Warnings about a recording: what is wrong, and in which second."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lipsync_preprocessing.contract import FRAME_RATE
from lipsync_preprocessing.recording.square import cuts
from lipsync_preprocessing.recording.track import Track

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

LONGEST_GAP_S = 1.0
"""The face may be lost for so long; the square moves on a straight line meanwhile."""
SMALLEST_SIDE = 160  # pixels
FARTHEST_YAW = 30.0  # degrees
SHORTEST_S, ENOUGH_S = 2.0, 60.0
_REST_S = 1.0
_BLURRED, _BLURRED_PART = 0.012, 0.35  # of sharpness: absolute, and of the recording's own median
_COVERED, _COVERED_TIMES = 22.0, 4.0  # grey levels, and times the usual difference
_LEAST_RUN_S = 0.12
_LARGEST_LAG = 15  # frames
_OUT_OF_STEP = 4  # frames
_CLEAR = 0.25  # correlation of opening and level above which a lag can be told
_DRIFT_PART, _DRIFT_PARTS, _ON_A_LINE = 20 * FRAME_RATE, 4, 1.5  # frames; parts; frames
_STILL = 1e-6  # deviation below which a curve does not move, but for rounding
_BETTER = 0.08  # ... and by how much it must be better than in step


@dataclass(frozen=True)
class Finding:
    """One warning.

    Attributes:
        kind: a short name, such as "face lost".
        advice: what it leads to, or what to do.
        start_s, end_s: where in the recording; None for all of it.
    """

    kind: str
    advice: str
    start_s: float | None = None
    end_s: float | None = None

    def __str__(self) -> str:
        if self.start_s is None or self.end_s is None:
            return f"{self.kind}: {self.advice}"
        return f"second {self.start_s:.1f} to {self.end_s:.1f}: {self.kind}: {self.advice}"


def find_all(track: Track, offset_s: float = 0.0) -> list[Finding]:
    """Return all warnings, those about the whole recording first.

    Args:
        track: the measurements.
        offset_s: where the dataset begins in the recording, so that seconds are those of the video.
    """
    return [*_of_the_whole(track), *sorted(_of_moments(track, offset_s), key=_start)]


def lost_too_long(track: Track, offset_s: float) -> list[tuple[float, float]]:
    """Return the times, in seconds of the video, in which the face is lost for too long to go on."""
    longest = round(LONGEST_GAP_S * FRAME_RATE)
    runs = _runs(~track.found)
    at_ends = {0, len(track)}
    gone = [(a, b) for a, b in runs if b - a > longest or {a, b} & at_ends]
    return [(offset_s + a / FRAME_RATE, offset_s + b / FRAME_RATE) for a, b in gone]


def _start(finding: Finding) -> float:
    return finding.start_s or 0.0


def _of_the_whole(track: Track) -> Iterator[Finding]:
    seconds = len(track) / FRAME_RATE
    if seconds < ENOUGH_S:
        yield Finding(
            "short",
            f"{seconds:.0f} s of speech; two to five minutes teach all phonemes, and one is the least",
        )
    if abs(track.audio_s - seconds) > 0.5:
        yield Finding(
            "lengths differ", f"{seconds:.1f} s of video and {track.audio_s:.1f} s of audio"
        )
    lag, clear = audio_lag(track)
    if clear and abs(lag) >= _OUT_OF_STEP:
        late = "later" if lag > 0 else "earlier"
        yield Finding(
            "audio and video out of step",
            f"the audio is about {abs(lag) / FRAME_RATE:.2f} s {late} than the lips; shift it before you"
            " train",
        )
    apart = audio_drift(track)
    if abs(apart) >= _OUT_OF_STEP:
        yield Finding(
            "audio and video drift apart",
            f"from the beginning to the end the audio gets {abs(apart) / FRAME_RATE:.2f} s"
            f" {'later' if apart > 0 else 'earlier'} against the lips; record both with one device, or"
            " stretch the audio before you train",
        )
    if not _runs(track.quiet & track.closed, _REST_S):
        yield Finding(
            "no silence to rest in",
            "no second of quiet with a closed mouth: between replies the avatar has nothing to rest in;"
            " record two or three seconds of silence at the beginning or the end",
        )
    if track.level.max() < -60:
        yield Finding("no speech", "the audio is silent")


def _of_moments(track: Track, offset_s: float) -> Iterator[Finding]:
    sides = track.square[:, 2]
    x1 = track.square[:, 0] - sides / 2
    outside = (x1 < 0) | (x1 + sides > track.size[0])
    outside |= (track.square[:, 1] < 0) | (track.square[:, 1] + sides > track.size[1])
    others = np.array([s.others for s in track.sightings])
    checks = (
        ("face lost", ~track.found, "its place is guessed from the frames around"),
        ("two faces", others > 0, "the larger one is followed; leave one person in the frame"),
        (
            "too small",
            sides < SMALLEST_SIDE,
            f"the face is under {SMALLEST_SIDE} pixels wide, and the result is soft; film closer",
        ),
        (
            "turned away",
            np.abs(track.yaw) > FARTHEST_YAW,
            f"the head is turned by more than {FARTHEST_YAW:.0f} degrees; the mouth is hidden in part",
        ),
        ("covered", covered(track), "something is before the mouth or the chin"),
        ("cut", outside, "the face square reaches out of the frame"),
        ("blurred", _blurred(track), "the face is out of focus or moves too fast"),
    )
    for kind, flags, advice in checks:
        for a, b in _runs(flags, _LEAST_RUN_S):
            yield Finding(kind, advice, offset_s + a / FRAME_RATE, offset_s + b / FRAME_RATE)
    for k in cuts(track.raw):
        at = offset_s + k / FRAME_RATE
        yield Finding("jump", "the video was cut, or the face jumps", at, at)
    for held in track.held:
        yield Finding("frozen", "the video has no new frame", held.start_s, held.end_s)


def covered(track: Track) -> Flags:
    """Return where the lower face looks unlike itself, bool [N].

    A hand or a microphone changes large areas; a moving mouth changes a small one.
    """
    flags = np.zeros(len(track), bool)
    faces = track.lower_faces
    if len(faces) < FRAME_RATE:
        return flags
    away = np.abs(faces - np.median(faces, axis=0)).mean(axis=(1, 2))
    usual = float(np.percentile(away, 25))
    flags[track.found] = (away > _COVERED) & (away > _COVERED_TIMES * usual)
    return flags


def _blurred(track: Track) -> Flags:
    usual = float(np.median(track.sharpness[track.found]))
    return track.found & (track.sharpness < max(_BLURRED, _BLURRED_PART * usual))


def audio_lag(track: Track) -> tuple[int, bool]:
    """Return by how many frames the audio is later than the lips, and whether that can be told.

    The level of speech and the gap between the lips rise and fall together. The lips lead a little.
    """
    match = _match(track.opening, track.level)
    best = int(np.argmax(match))
    clear = match[best] > _CLEAR and match[best] > match[_LARGEST_LAG] + _BETTER
    return best - _LARGEST_LAG, bool(clear)


def audio_drift(track: Track) -> float:
    """Return by how many frames the audio gets later against the lips over the whole recording.

    It is the slope of the lags of parts; 0 if they do not lie on a line, or are too few.
    """
    middles, lags = [], []
    for start in range(0, len(track) - _DRIFT_PART + 1, _DRIFT_PART // 2):
        part = slice(start, start + _DRIFT_PART)
        match = _match(track.opening[part], track.level[part])
        best = int(np.argmax(match))
        if match[best] > _CLEAR:
            middles.append(start + _DRIFT_PART / 2)
            lags.append(best - _LARGEST_LAG)
    if len(lags) < _DRIFT_PARTS:
        return 0.0
    slope, first = np.polyfit(middles, lags, 1)
    away = np.abs(slope * np.array(middles) + first - lags)
    return float(slope * len(track)) if np.median(away) <= _ON_A_LINE else 0.0


def _match(opening: Floats, level: Floats) -> Floats:
    """Return the correlation of the lips' gap and the level at each lag; all 0 if they do not move."""
    lips, loud = _motion(opening), _motion(np.maximum(level, -60))
    inner = len(lips) - 2 * _LARGEST_LAG
    lags = range(2 * _LARGEST_LAG + 1)
    if inner < 4 * FRAME_RATE or min(lips.std(), loud.std()) < _STILL:
        return np.zeros(len(lags))
    still = lips[_LARGEST_LAG:-_LARGEST_LAG]
    return np.array([np.corrcoef(still, loud[lag : lag + inner])[0, 1] for lag in lags])


def _motion(values: Floats) -> Floats:
    """Return a curve without its slow part, over two seconds."""
    wide = 2 * FRAME_RATE + 1
    if len(values) < wide:
        return np.zeros_like(values)
    slow = np.convolve(np.pad(values, wide // 2, mode="edge"), np.ones(wide) / wide, "valid")
    return values - slow


def _runs(flags: Flags, least_s: float = 0.0) -> list[tuple[int, int]]:
    """Return the beginnings and ends of the runs of True that last at least `least_s`."""
    edges = np.diff(np.concatenate([[0], flags.astype(np.int8), [0]]))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    least = max(1, round(least_s * FRAME_RATE))
    return [(int(a), int(b)) for a, b in zip(starts, ends, strict=True) if b - a >= least]
