"""Recordings of any frame rate become 25 frames per second beside their audio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lipsync_preprocessing.errors import RecordingError
from lipsync_preprocessing.recording.audio import SAMPLE_RATE
from lipsync_preprocessing.recording.video import Part, Recording
from support.recordings import AUDIO_RATE, write_recording

Array = np.ndarray[Any, np.dtype[Any]]


BITS = 8


def numbered(count: int, size: tuple[int, int] = (96, 64)) -> list[Array]:
    """Return frames that show their number as black and white columns."""
    columns = np.arange(size[0]) * BITS // size[0]
    rows = [(((k >> columns) & 1) * 255).astype(np.uint8) for k in range(count)]
    return [
        np.ascontiguousarray(np.broadcast_to(row[None, :, None], (size[1], size[0], 3)))
        for row in rows
    ]


def numbers(path: Path, part: Part | None = None) -> list[int]:
    shown = []
    for frame in Recording(path, part or Part(), None).frames():
        width = frame.shape[1] // BITS
        columns = frame[:, : width * BITS].reshape(len(frame), BITS, width, 3).mean(axis=(0, 2, 3))
        shown.append(sum(int(value > 127) << bit for bit, value in enumerate(columns)))
    return shown


@pytest.mark.parametrize("fps", [24, 25, 29.97, 30, 50, 60, 120])
def test_each_frame_is_the_one_shown_at_its_time(fps: float, tmp_path: Path) -> None:
    path = write_recording(tmp_path / "v.mp4", numbered(round(fps * 2)), fps)
    shown = [int((k / 25 + 0.012) * fps) for k in range(50)]
    assert numbers(path) == shown


def test_a_variable_rate_goes_by_time(tmp_path: Path) -> None:
    """A phone in the dark: 30 frames per second, then 12, and one frame for a whole second."""
    steps = [1 / 30] * 30 + [1 / 12] * 12 + [1.0] + [1 / 30] * 15
    times = np.concatenate([[0], np.cumsum(steps)])
    path = write_recording(tmp_path / "v.mp4", numbered(len(times)), 30, times=list(times))
    came = numbers(path)
    expected = [int(np.searchsorted(times, k / 25 + 0.012, "right")) - 1 for k in range(len(came))]
    assert came == expected
    assert len(came) == pytest.approx((times[-1] + 1 / 30) * 25, abs=1)
    recording = Recording(path, Part(), None)
    list(recording.frames())
    assert [round(h.end_s - h.start_s, 1) for h in recording.held] == [1.0]


def test_a_part_is_cut_in_seconds_of_the_video(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "v.mp4", numbered(100), 25)
    assert numbers(path, Part(1.0, 3.0)) == list(range(25, 75))
    samples = Recording(path, Part(1.0, 3.0), None).audio()
    assert len(samples) == pytest.approx(2 * SAMPLE_RATE, abs=2)


def test_a_phone_held_upright(tmp_path: Path) -> None:
    upright = np.zeros((96, 64, 3), np.uint8)
    upright[:30] = 200, 40, 40  # the sky
    path = write_recording(tmp_path / "v.mp4", [upright] * 30, turned=True)
    first = next(Recording(path, Part(), None).frames())
    assert first.shape == upright.shape
    assert np.abs(first.astype(int) - upright)[5:25].mean() < 12
    assert first[60:].mean() < 12


@pytest.mark.parametrize("audio_start_s", [0.0, 0.4])
def test_the_audio_keeps_its_place_beside_the_frames(audio_start_s: float, tmp_path: Path) -> None:
    audio = np.zeros(2 * AUDIO_RATE, np.float32)
    audio[AUDIO_RATE : AUDIO_RATE + 480] = 0.8  # a click a second after the audio's beginning
    path = write_recording(
        tmp_path / "v.mp4", numbered(75), audio=audio, audio_start_s=audio_start_s
    )
    samples = Recording(path, Part(), None).audio()
    click = np.flatnonzero(np.abs(samples) > 0.3)[0] / SAMPLE_RATE
    assert click == pytest.approx(1.0 + audio_start_s, abs=0.03)


def test_large_frames_are_scaled_down(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "v.mp4", numbered(30, (192, 108)))
    assert next(Recording(path, Part(), 54).frames()).shape == (54, 96, 3)
    assert next(Recording(path, Part(), 400).frames()).shape == (108, 192, 3)


def test_files_that_are_no_recording(tmp_path: Path) -> None:
    silent = write_recording(tmp_path / "silent.mp4", numbered(30), audio=np.zeros(0, np.float32))
    with pytest.raises(RecordingError, match="has no audio"):
        Recording(silent, Part(), None)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(RecordingError, match=r"text\.mp4: expected a video.*cannot be decoded"):
        Recording(tmp_path / "text.mp4", Part(), None)
    with pytest.raises(RecordingError, match="No such file"):
        Recording(tmp_path / "none.mp4", Part(), None)
