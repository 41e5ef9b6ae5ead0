"""Damaged clips: what can be decoded keeps its time, silence takes the place of the rest, with a warning."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from lipsync_client import InputError
from lipsync_client._audio import AudioFile
from support.audio_files import encode, voices

RATE, SECONDS = 44100, 3.0
CODECS = {
    "mp3": "libmp3lame", "flac": "flac", "ogg": "libopus",
    "m4a": "aac", "aac": "aac", "mkv": "aac", "ts": "aac",
}  # fmt: skip


def clip(folder: Path, suffix: str, rate: int = RATE, channels: int = 1) -> Path:
    rate = 48000 if suffix == "ogg" else rate
    samples = voices(rate, channels, SECONDS)
    container = {"aac": "adts", "ts": "mpegts"}.get(suffix)
    path = folder / f"{rate}-{channels}.{suffix}"
    return encode(path, samples, rate, CODECS[suffix], container)


def read(path: Path) -> tuple[NDArray[Any], list[str]]:
    """Return the samples and the warnings."""
    source = AudioFile(path)
    try:
        return np.concatenate(list(source.blocks())), source.warnings
    finally:
        source.close()


def scrambled(data: bytes) -> bytes:
    """Return data with 200 damaged bytes in the middle."""
    damaged, middle = bytearray(data), len(data) // 2
    damaged[middle : middle + 200] = random.Random(1).randbytes(200)
    return bytes(damaged)


def cut(data: bytes) -> bytes:
    """Return the first 70 % of data."""
    return data[: len(data) * 7 // 10]


@pytest.mark.parametrize("suffix", ["flac", "m4a", "aac", "ts", "ogg"])
def test_damaged_bytes_leave_the_rest_in_its_place(tmp_path: Path, suffix: str) -> None:
    path = clip(tmp_path, suffix)
    whole, no_warnings = read(path)
    assert no_warnings == []
    path.write_bytes(scrambled(path.read_bytes()))
    damaged, warnings = read(path)
    assert len(warnings) >= 1
    assert "silence takes their place" in warnings[0]
    assert (
        abs(len(damaged) - len(whole)) <= 16000 * 0.025
    )  # an AAC frame in front of the next header
    assert_heard(damaged, whole[:16000], 0)
    assert_heard(damaged, whole[32000:46000], 32000)
    difference = np.abs(whole[: len(damaged)] - damaged[: len(whole)]) > 0.02
    start_s = float(warnings[0].split(" s of audio at ")[1].split(" s")[0])
    assert abs(np.flatnonzero(difference)[0] / 16000 - start_s) < 0.1
    with pytest.raises(InputError, match=r"at \d\.\d{3} s .*Replace or re-encode the file"):
        AudioFile(path, strict=True)


@pytest.mark.parametrize(
    ("suffix", "warning"),
    [
        ("flac", r"ends at 2\.\d+ s, but the header of the file states 3\.000 s"),
        ("mkv", r"ends at 2\.\d+ s, but the header of the file states 3\.\d+ s"),
    ],
)
def test_a_file_that_was_cut(tmp_path: Path, suffix: str, warning: str) -> None:
    path = clip(tmp_path, suffix)
    whole, _ = read(path)
    path.write_bytes(cut(path.read_bytes()))
    damaged, warnings = read(path)
    assert 1.8 < len(damaged) / 16000 < 2.4
    assert np.abs(damaged[:28000] - whole[:28000]).max() < 1e-4
    assert re.search(warning, warnings[-1])
    with pytest.raises(InputError, match="Replace or re-encode the file"):
        AudioFile(path, strict=True)


def test_a_matroska_file_whose_rest_cannot_be_read_is_reported(tmp_path: Path) -> None:
    """FFmpeg skips all up to the next cluster, and reports nothing."""
    path = clip(tmp_path, "mkv")
    path.write_bytes(scrambled(path.read_bytes()))
    _, warnings = read(path)
    assert "the header of the file states 3.0" in warnings[-1]


def test_two_mp3_files_joined(tmp_path: Path) -> None:
    first, second = clip(tmp_path, "mp3"), clip(tmp_path, "mp3", rate=22050)
    parts = [read(path)[0] for path in (first, second)]
    joined = tmp_path / "joined.mp3"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    samples, warnings = read(joined)
    assert abs(len(samples) - sum(map(len, parts))) < 16000 * 0.1  # a codec's padding
    assert len(warnings) == 1
    assert "s of audio at 3.0" in warnings[0]
    assert_heard(samples, parts[0], 0)
    assert_heard(samples, parts[1], len(parts[0]))


@pytest.mark.parametrize(
    ("first", "second"),
    [((24000, 1), (48000, 1)), ((48000, 1), (24000, 2)), ((44100, 2), (44100, 1))],
)
def test_rate_and_layout_may_change(
    tmp_path: Path, first: tuple[int, int], second: tuple[int, int]
) -> None:
    """Both parts come at their own speed."""
    files = [clip(tmp_path, "aac", *properties) for properties in (first, second)]
    parts = [read(path)[0] for path in files]
    joined = tmp_path / "joined.aac"
    joined.write_bytes(b"".join(path.read_bytes() for path in files))
    samples, warnings = read(joined)
    assert warnings == []
    assert abs(len(samples) - sum(map(len, parts))) < 100
    assert_heard(samples, parts[0], 0)
    assert_heard(samples, parts[1], len(parts[0]))


def assert_heard(samples: NDArray[Any], part: NDArray[Any], start: int) -> None:
    """Assert that `part` is in `samples` from about `start` on, at its own speed."""
    begin = len(part) // 4
    wanted = part[begin : 3 * begin]
    best = max(
        np.corrcoef(samples[start + lag :][: len(wanted)], wanted)[0, 1]
        for lag in range(begin - 1600, begin + 1600)
    )
    assert best > 0.95


def test_gaps_of_the_clock_are_filled(tmp_path: Path) -> None:
    path = tmp_path / "gap.mkv"
    samples = voices(RATE, 1, SECONDS)
    whole, _ = read(encode(path, samples, RATE, "aac"))
    with_gap, warnings = read(encode(path, samples, RATE, "aac", gap_after_s=1))
    assert abs(len(with_gap) - len(whole) - 3200) < 50
    assert len(warnings) == 1
    assert "0.200 s of audio at 1.0" in warnings[0]
    assert np.abs(with_gap[16600:19300]).max() < 1e-3
    assert np.abs(with_gap[-8000:-2000] - whole[-8000:-2000]).max() < 0.05


def test_many_damaged_parts_are_counted(tmp_path: Path) -> None:
    path = clip(tmp_path, "m4a")
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4000
    for at in range(start, len(data) - 4000, 1500):
        data[at : at + 60] = b"\xff" * 60
    path.write_bytes(data)
    _, warnings = read(path)
    assert len(warnings) == 6
    assert warnings[-1].endswith("more parts are damaged")


def test_nothing_that_can_be_decoded(tmp_path: Path) -> None:
    path = clip(tmp_path, "m4a")
    data = path.read_bytes()
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    path.write_bytes(data[:start] + b"\xff" * (end - start) + data[end:])
    with pytest.raises(InputError, match=r"nothing of the audio can be decoded: .* s of audio at"):
        read(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e6])
def test_samples_out_of_range_are_refused(tmp_path: Path, value: float) -> None:
    samples = voices(RATE, 2, 1.0)
    samples[1, 22050] = value
    soundfile.write(tmp_path / "s.wav", samples.T, RATE, subtype="FLOAT")
    with pytest.raises(InputError, match=r"the sample at 0\.500 s is .*re-encode the file"):
        read(tmp_path / "s.wav")


Break = Callable[[bytes], bytes]


@pytest.mark.parametrize("suffix", CODECS)
def test_no_damage_raises_anything_but_input_errors(tmp_path: Path, suffix: str) -> None:
    whole = clip(tmp_path, suffix).read_bytes()
    path = tmp_path / f"damaged.{suffix}"
    chance = random.Random(suffix)
    for _ in range(25):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            start, length = chance.randrange(len(data)), chance.randrange(1, 2000)
            data[start : start + length] = chance.choice(
                (b"", bytes(length), chance.randbytes(length), bytes(data[:length]))
            )
        path.write_bytes(data)
        try:
            samples, _ = read(path)
        except InputError:
            continue
        assert np.isfinite(samples).all()
        assert len(samples) < 16000 * 200
