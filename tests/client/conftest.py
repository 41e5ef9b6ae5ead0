"""A clip for the tests of the client."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.audio_files import write_wav


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "clip.wav", 22050, 2, seconds=3)
