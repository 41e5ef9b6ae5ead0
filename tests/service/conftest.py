"""Clips in every codec, and a client of the session's server."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
from numpy.typing import NDArray

from lipsync_client import LipSyncClient, OutputFormat, RenderOptions, RenderSummary
from lipsync_embedded import Server
from support.audio_files import encode
from support.triton_calls import speech

SECONDS = 2.03  # 50.75 video frames, of which the contract's count makes 49
CLIPS = {  # name: encoder, container, sample rate
    "aac.m4a": ("aac", "mp4", 44100),
    "aac.aac": ("aac", "adts", 48000),
    "aac.ts": ("aac", "mpegts", 44100),
    "mp3.mp3": ("libmp3lame", "mp3", 44100),
    "mp3.mkv": ("libmp3lame", "matroska", 44100),
    "opus.ogg": ("libopus", "ogg", 48000),
    "flac.flac": ("flac", "flac", 48000),
    "ac3.ac3": ("ac3", "ac3", 48000),
    "alac.m4a": ("alac", "mp4", 44100),
}
Render = Callable[..., RenderSummary]


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[LipSyncClient]:
    """A client of the session's server."""
    with LipSyncClient(server.grpc_url) as client:
        yield client


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same two seconds in every codec, and as pcm.wav."""
    folder = tmp_path_factory.mktemp("clips")
    for name, (codec, container, rate) in CLIPS.items():
        encode(folder / name, mono_speech(rate), rate, codec, container)
    soundfile.write(folder / "pcm.wav", speech(SECONDS), 16000)
    return folder


def mono_speech(rate: int) -> NDArray[Any]:
    """Return SECONDS of audio, float32 (1, samples)."""
    return speech(SECONDS * rate / 16000)[None, : int(SECONDS * rate)]


@pytest.fixture(scope="session")
def render(client: LipSyncClient) -> Render:
    """A function that renders a clip to a path, with an output format and encoder options."""

    def render(
        clip: Path, path: Path, output_format: OutputFormat | None = None, **options: int | str
    ) -> RenderSummary:
        return client.render_to_file(
            clip, path, "toy", RenderOptions(encoder_options=options),
            output_format=output_format, force=True,
        )  # fmt: skip

    return render


@pytest.fixture(scope="session")
def mp4(render: Render, clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pcm.wav rendered to MP4 at crf 10."""
    path = tmp_path_factory.mktemp("mp4") / "out.mp4"
    render(clips / "pcm.wav", path, crf=10)
    return path


@pytest.fixture
def one_model(toy_repository: Path, tmp_path: Path) -> Path:
    """A repository of `audio_window` alone, which starts quickly."""
    shutil.copytree(toy_repository / "audio_window", tmp_path / "models" / "audio_window")
    return tmp_path / "models"
