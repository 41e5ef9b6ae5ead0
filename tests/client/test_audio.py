"""Reading audio: sample for sample what the contract requires."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from lipsync_client import InputError
from lipsync_client._audio import AudioFile, ClipWindow
from support import oracle
from support.audio_files import RATES, broken_files, encode, voices, write_wav


def read(path: Path) -> NDArray[Any]:
    source = AudioFile(path)
    try:
        return np.concatenate(list(source.blocks()))
    finally:
        source.close()


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("channels", [1, 2])
def test_equals_the_oracle(tmp_path: Path, rate: int, channels: int) -> None:
    path = write_wav(tmp_path / "s.wav", rate, channels)
    actual, expected = read(path), oracle.load_audio(path)
    assert actual.shape == expected.shape
    assert actual.dtype == np.float32
    assert np.abs(actual - expected).max() <= 1e-5


CODECS = {"s.mp3": "mp3", "s.flac": "flac", "s.opus": "libopus", "s.m4a": "aac", "s.mkv": "aac"}


@pytest.mark.parametrize("name", CODECS)
def test_other_containers(tmp_path: Path, name: str) -> None:
    rate = 48000 if name == "s.opus" else 44100
    samples = voices(rate, 2, 1.3)
    soundfile.write(tmp_path / "s.wav", samples.T, rate)
    wave = read(tmp_path / "s.wav")
    actual = read(encode(tmp_path / name, samples, rate, CODECS[name]))
    assert abs(len(actual) - len(wave)) < 16000 * 0.1  # a codec's padding
    size = min(len(actual), len(wave))
    match = [
        np.corrcoef(np.roll(actual, -lag)[:size], wave[:size])[0, 1] for lag in range(0, 1200, 2)
    ]
    assert max(match) > 0.9


def test_a_window_holds_only_what_is_needed(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "s.wav", 16000, 1, seconds=20)
    whole, source = read(path), AudioFile(path)
    clip = ClipWindow(source.blocks())
    for begin in range(0, 300_000, 20_000):
        clip.read_to(begin + 30_000)
        assert np.array_equal(clip.slice(begin, begin + 30_000), whole[begin : begin + 30_000])
        assert clip._samples.size < 40_000
    clip.read_to(10**9)
    assert clip.total == len(whole)
    source.close()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.wav", "no such file"),
        ("text.wav", "expected an audio or video file"),
        ("empty.wav", "expected an audio or video file"),
        ("silent.mp4", "expected an audio track"),
        ("headers.wav", "the audio in this file is empty"),
        ("directory", "got a directory"),
    ],
)
def test_files_without_audio_are_refused(tmp_path: Path, name: str, message: str) -> None:
    path = broken_files(tmp_path)[name]
    with pytest.raises(InputError, match=message):
        read(path)
