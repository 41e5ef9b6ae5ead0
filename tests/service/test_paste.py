"""The compositor's paste options, each by what it is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from lipsync_frames import AvatarFrames, Paste
from numpy.typing import NDArray

RECT = (100, 60, 282, 242)


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """One smooth frame."""
    small = np.random.default_rng(2).integers(60, 190, (6, 8, 3), dtype=np.uint8)
    frame = cv2.resize(small, (400, 300), interpolation=cv2.INTER_CUBIC)
    png = cv2.imencode(".png", frame)[1]
    path = tmp_path / "frames.npz"
    np.savez(
        path,
        images=png.reshape(-1),
        offsets=np.array([0, png.size]),
        rects=np.array([RECT], np.int32),
        size=np.array([400, 300], np.int32),
    )
    return path


def seam(pack: Path, paste: Paste) -> tuple[float, float]:
    """Mean step in grey levels across the patch's edge, pasted and in the background."""
    avatar = AvatarFrames(pack, 2**24, paste)
    frame = avatar.bgr(0)
    x1, y1, x2, y2 = RECT
    crop = cv2.resize(frame[y1:y2, x1:x2], (328, 328), interpolation=cv2.INTER_CUBIC)
    # A generator whose picture is right but twelve levels too bright.
    patch = np.clip(crop[4:324, 4:324].astype(int) + 12, 0, 255).astype(np.uint8)
    out = np.empty_like(frame)
    avatar.compose_bgr(0, patch, out)

    def step(picture: NDArray[Any]) -> float:
        rows = picture[y1 + 20 : y2 - 20].astype(float)
        return float(np.abs(rows[:, x1 + 6] - rows[:, x1]).mean())

    return step(out), step(frame)


def test_the_default_is_the_hard_paste(pack: Path) -> None:
    pasted, background = seam(pack, Paste())
    assert pasted - background > 3


@pytest.mark.parametrize("paste", [Paste(colour_match=True), Paste(feather_px=24)])
def test_each_option_takes_the_seam_away(pack: Path, paste: Paste) -> None:
    pasted, background = seam(pack, paste)
    assert pasted - background <= 1.5


def test_options_are_read_from_the_config() -> None:
    told = {"paste_feather_px": {"string_value": "6"}, "paste_colour_match": {"string_value": "1"}}
    assert Paste.from_parameters(told) == Paste(6.0, True)
    assert Paste.from_parameters({"frame_cache_mb": {"string_value": "300"}}) == Paste()


def test_h264_frames_are_the_same_picture(pack: Path) -> None:
    avatar = AvatarFrames(pack, 2**24, Paste(feather_px=8))
    patch = np.random.default_rng(0).integers(0, 255, (320, 320, 3), dtype=np.uint8)
    frame, picture = np.empty((300, 400, 3), np.uint8), np.empty((450, 400), np.uint8)
    avatar.compose_bgr(0, patch, frame)
    avatar.compose_i420(0, patch, picture)
    assert np.array_equal(picture, cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420))
