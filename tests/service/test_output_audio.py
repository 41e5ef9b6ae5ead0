"""The audio of an output: the clip's own packets or encoded ones, in step with the video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from lipsync_client import InputError, OutputFormat
from lipsync_client._output.formats import AudioMode, FormatName
from service.conftest import CLIPS, Render, mono_speech
from support.audio_files import encode
from support.media_files import assert_in_step, codecs, decoded_audio, packets
from support.triton_calls import speech

COPIED = {
    "mp4": list(CLIPS),
    "fmp4": list(CLIPS),
    "mkv": list(CLIPS),
    "ts": [name for name in CLIPS if not name.startswith(("flac", "alac"))],
    "webm": ["opus.ogg"],
}


def path_for(folder: Path, container: str) -> Path:
    return folder / f"out.{'mp4' if container == 'fmp4' else container}"


@pytest.mark.parametrize(("container", "name"), [(c, n) for c in COPIED for n in COPIED[c]])
def test_packets_are_copied(
    render: Render, clips: Path, tmp_path: Path, container: FormatName, name: str
) -> None:
    """Packet for packet, and each sample at its own time."""
    clip, path = clips / name, path_for(tmp_path, container)
    mode: AudioMode = "copy" if name in ("ac3.ac3", "alac.m4a") else "auto"
    frames = render(clip, path, OutputFormat(container, mode)).frames
    original, copied = ([bytes(p) for p in packets(x, "audio")] for x in (clip, path))
    if name in ("aac.aac", "aac.ts"):  # there each packet has a header of its own
        original = [packet[7:] for packet in original]
    if container == "ts" and name.startswith("aac"):
        copied = [packet[7:] for packet in copied]
    left_out = original.index(copied[0])
    assert left_out <= (0 if container in ("mp4", "fmp4", "webm") else 1)
    assert copied == original[left_out : left_out + len(copied)]
    assert len(original) - left_out - len(copied) <= 3
    assert_in_step(path, frames)
    _, expected, rate = decoded_audio(clip)  # what the server got, from its first sample on
    start, actual, actual_rate = decoded_audio(path)
    assert actual_rate == rate
    at, length = round((0.5 - start) * rate), rate // 2
    part = actual[at : at + length]
    lags = range(-rate // 500, rate // 500 + 1)
    # Not equal: after a packet that is left out, AAC's decoder makes up other noise.
    match = {lag: np.corrcoef(expected[rate // 2 + lag :][:length], part)[0, 1] for lag in lags}
    lag = max(match, key=lambda k: match[k])
    assert abs(lag) / rate < 0.001  # Matroska rounds to a millisecond
    assert match[lag] > 0.99


@pytest.mark.parametrize("container", ["mp4", "fmp4", "ts", "mkv"])
@pytest.mark.parametrize("samples", [97_797, 95_400, 9_000, 100, 1])
def test_lengths_at_the_edges_of_the_contracts_count(
    render: Render, tmp_path: Path, container: FormatName, samples: int
) -> None:
    """At 48 kHz, where an AAC frame is shortest: 1.94 and 0.69 frames more audio, and very short clips."""
    clip, path = tmp_path / "clip.wav", path_for(tmp_path, container)
    soundfile.write(clip, speech(7)[:samples], 48_000)
    assert_in_step(path, render(clip, path, OutputFormat(container)).frames)


def test_audio_with_a_gap_is_encoded(render: Render, tmp_path: Path) -> None:
    """Silence fills the gap, so that the clip's time is kept."""
    clip, path = tmp_path / "gap.mkv", tmp_path / "out.mkv"
    encode(clip, mono_speech(44100), 44100, "aac")
    without_gap = render(clip, path).frames
    encode(clip, mono_speech(44100), 44100, "aac", gap_after_s=1)
    frames = render(clip, path).frames
    assert frames == without_gap + 5  # 0.2 s
    assert_in_step(path, frames)
    with pytest.raises(InputError, match=r"0\.200 s of audio at 1\.0.* are missing in the file"):
        render(clip, path, OutputFormat("mkv", audio="copy"))


def test_audio_mode_aac_encodes(render: Render, clips: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    frames = render(clips / "mp3.mp3", path, OutputFormat("mp4", audio="aac")).frames
    assert codecs(path) == ["aac", "h264"]
    assert_in_step(path, frames)
