"""The figures of a student against its teacher, and the floors below which it is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from lipsync_benchmarks import quality
from lipsync_embedded.accelerator import cpu_has_bf16
from lipsync_preprocessing.avatar.pack import read_pack
from lipsync_preprocessing.distillation.figures import Figures, compare, edge_step
from lipsync_preprocessing.distillation.mouth import TaughtMouth
from lipsync_preprocessing.errors import TrainingError
from lipsync_preprocessing.repository import Repository
from support.teaching import NAME, Echo, Taught

pytestmark = pytest.mark.slow

PERFECT = Figures(60.0, 1.0, 60.0, 1.0, 0, 1.0, 1.0, 0.0, 50)


def test_the_mouth_is_where_the_audio_changes_the_face() -> None:
    rng = np.random.default_rng(2)
    heights, spoken, rests = rng.uniform(0, 40, 60), [], []
    for height in heights:
        face = cv2.resize(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8), (320, 320))
        rests.append(face)
        spoken.append(cv2.ellipse(face.copy(), (140, 210), (35, round(height)), 0, 0, 360, 0, -1))
    mouth = TaughtMouth(spoken, rests)
    assert mouth.centre == pytest.approx((140 / 320, 210 / 320), abs=0.02)
    came = [mouth.opening(a, b) for a, b in zip(spoken, rests, strict=True)]
    assert np.corrcoef(came, heights)[0, 1] > 0.8
    assert mouth.opening(rests[0], rests[0]) == 0 < mouth.closed_below
    assert np.mean(came) > 0
    with pytest.raises(TrainingError, match="the same patches for speech and silence"):
        TaughtMouth(rests, rests)


def test_the_figures_of_the_teacher_itself_and_of_worse_ones(taught: Taught) -> None:
    itself = compare(taught.teacher, taught.lessons, taught.mouth, taught.paste)
    assert itself.refusal() is None
    assert itself.correlation == pytest.approx(1)
    assert (itself.shift, itself.seam) == (0, 0)
    assert itself.mouth_psnr_db == itself.patch_psnr_db > 70
    assert itself.silence_closed == itself.teachers_silence_closed
    assert itself.frames == len(taught.voices.held_out)
    late: Any = Echo(taught.lessons, late=3)
    assert compare(late, taught.lessons, taught.mouth, taught.paste).shift == 3
    bright: Any = Echo(taught.lessons, brighter=30)
    worse = compare(bright, taught.lessons, taught.mouth, taught.paste)
    assert worse.mouth_psnr_db < 25
    assert abs(worse.seam) > 1


def test_the_benchmark_compares_the_engines_in_the_same_way(
    with_berta: Path, spoken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "_PAIRS", 12)
    found = quality.figures_of(with_berta, NAME, [spoken], tmp_path)
    exact = found["its own generator, OpenVINO f32"]
    assert exact.refusal() is None
    assert exact.patch_psnr_db > 60
    assert exact.correlation > 0.9999
    others = [name for name in found if "f32" not in name]
    assert others == ["its own generator, OpenVINO bf16"] * cpu_has_bf16()
    assert all(found[name].patch_psnr_db < exact.patch_psnr_db for name in others)


def test_the_paste_is_the_compositors(with_berta: Path, taught: Taught) -> None:
    """A face that is pasted where it was cut out changes next to nothing; a step at its edge is seen."""
    frame = list(read_pack(Repository(with_berta).pack(NAME)))[2]
    x1, y1, x2, y2 = frame.rect
    own = frame.image[y1:y2, x1:x2]
    came = taught.paste(2, np.array(taught.lessons.faces[2]))
    assert np.abs(came.astype(int) - own).mean() < 2
    grey = np.full((328, 328, 3), 100, np.uint8)
    assert edge_step(grey) == 0
    grey[4:324, 4:324] = 110
    assert edge_step(grey) == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mouth_psnr_db": 33.9}, r"PSNR of the mouth at least 34 dB, got 33\.90"),
        ({"correlation": 0.97}, r"correlation of its openings of at least 0\.98, got 0\.970"),
        ({"correlation": float("nan")}, "correlation of its openings"),
        ({"shift": -1}, r"in step, got a shift of -1 frames"),
        ({"silence_closed": 0.98}, r"closed mouth in at least 99\.0% of the frames.*got 98\.0%"),
        ({"seam": 0.6}, r"at most 0\.5 grey levels more than the teacher's, got 0\.60"),
    ],
)
def test_each_floor_refuses(change: dict[str, Any], message: str) -> None:
    assert PERFECT.refusal() is None
    refusal = replace(PERFECT, **change).refusal()
    assert refusal is not None
    assert "--steps" in refusal
    assert refusal.startswith("expected ")
    assert re.search(message, refusal), refusal
