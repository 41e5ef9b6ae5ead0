"""The demo avatar says what it hears: its committed weights, through the real server, on speech held out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from draw import draw_face
from motion import face_rect
from mouth import Mouth
from numpy.typing import NDArray

from lipsync_client import LipSyncClient, RenderOptions
from lipsync_embedded import Server
from support.demo_motion import pose_of
from support.mouth_opening import SHIFTS, matches, opening

HELD_OUT = Path(__file__).with_name("held_out")
CLIPS = ("woman", "man")
SAMPLES = 640  # of a frame
PAUSE = 40  # frames


@pytest.fixture(scope="module")
def demo(demo_server: Server) -> Iterator[LipSyncClient]:
    with LipSyncClient(demo_server.grpc_url) as client:
        yield client


def rendered(client: LipSyncClient, audio: Path) -> NDArray[Any]:
    chunks = list(client.render(audio, "demo", RenderOptions(output="FRAMES")))
    return np.concatenate([chunk.frames for chunk in chunks])


def face(frame: NDArray[Any], number: int) -> NDArray[Any]:
    x1, y1, x2, y2 = face_rect(pose_of(number))
    return frame[y1:y2, x1:x2]


def truth_of(clip: str) -> dict[str, Any]:
    return dict(json.loads((HELD_OUT / f"{clip}.json").read_text()))


@pytest.fixture(scope="module")
def spoken(demo: LipSyncClient) -> dict[str, NDArray[Any]]:
    return {clip: rendered(demo, HELD_OUT / f"{clip}.flac") for clip in CLIPS}


@pytest.mark.parametrize("clip", CLIPS)
def test_the_truth_is_the_drawing(clip: str) -> None:
    truth = truth_of(clip)
    for i in range(0, len(truth["mouth"]), 60):
        drawn = opening(draw_face(pose_of(i), Mouth(*truth["mouth"][i])))
        assert drawn == pytest.approx(truth["opening"][i], abs=0.5)


@pytest.mark.parametrize("clip", CLIPS)
def test_the_mouth_opens_as_it_should_and_when(spoken: dict[str, NDArray[Any]], clip: str) -> None:
    truth = np.array(truth_of(clip)["opening"])
    frames = spoken[clip]
    assert len(frames) == len(truth)
    came = np.array([opening(face(frame, i)) for i, frame in enumerate(frames)])
    match = matches(came, truth)
    print(f"{clip}: correlation {match[4]:.3f}, by shift {np.round(match, 3)}")
    assert match[4] >= 0.9
    assert SHIFTS[int(np.argmax(match))] == 0
    assert np.percentile(came, 95) == pytest.approx(np.percentile(truth, 95), rel=0.25)


@pytest.mark.parametrize("level", [0.0, 0.001], ids=["nothing", "faint noise"])
def test_silence_keeps_the_mouth_closed(demo: LipSyncClient, tmp_path: Path, level: float) -> None:
    noise = np.random.default_rng(5).standard_normal(2 * 16_000)
    soundfile.write(tmp_path / "silence.wav", level * noise, 16_000)
    frames = rendered(demo, tmp_path / "silence.wav")
    open_ = np.array([opening(face(frame, i)) for i, frame in enumerate(frames)])
    print(f"opening in silence: up to {open_.max():.2f} pixels")
    assert (open_ < 2.0).mean() >= 0.99


@pytest.mark.parametrize("level_db", [-45, -40, -35])
def test_noise_in_pauses_keeps_the_mouth_closed(
    demo: LipSyncClient, tmp_path: Path, level_db: float
) -> None:
    parts, truth = [], []
    for clip in CLIPS:
        opened = truth_of(clip)["opening"]
        samples, _ = soundfile.read(HELD_OUT / f"{clip}.flac")
        parts.append(np.pad(samples, (0, (len(opened) + PAUSE) * SAMPLES - len(samples))))
        truth += [*opened, *[0.0] * PAUSE]
    audio = np.concatenate(parts)
    audio += 10 ** (level_db / 20) * pink_noise(len(audio))
    soundfile.write(tmp_path / "noisy.wav", audio, 16_000)
    frames = rendered(demo, tmp_path / "noisy.wav")
    pause = np.array(truth[: len(frames)]) == 0.0
    for away in range(1, 4):  # a mouth takes three frames to close, and to open
        pause &= np.roll(pause, away) & np.roll(pause, -away)
    assert pause.sum() > PAUSE
    open_ = np.array([opening(face(frames[i], i)) for i in np.flatnonzero(pause)])
    print(f"{level_db} dB: closed in {(open_ < 2.0).mean():.1%} of {len(open_)} frames")
    assert (open_ < 2.0).mean() >= 0.98


def pink_noise(length: int) -> NDArray[Any]:
    """Return noise whose power falls by 3 dB an octave above 20 Hz; its mean square is 1."""
    frequencies = np.maximum(np.fft.rfftfreq(length, 1 / 16_000), 20.0)
    spectrum = np.fft.rfft(np.random.default_rng(6).standard_normal(length))
    noise = np.fft.irfft(spectrum / np.sqrt(frequencies), length)
    return np.asarray(noise / np.sqrt((noise**2).mean()))


def test_low_voices_open_the_mouth_as_high_ones_do(demo: LipSyncClient) -> None:
    """The same words at 85 and at 200 Hz."""
    share = {}
    for clip in ("low", "high"):
        frames = rendered(demo, HELD_OUT / f"{clip}.flac")
        came = [opening(face(frame, i)) for i, frame in enumerate(frames)]
        share[clip] = np.mean(came) / np.mean(truth_of(clip)["opening"])
    print("mean opening, rendered over drawn:", share)
    assert share["low"] == pytest.approx(share["high"], rel=0.2)


@pytest.mark.parametrize("clip", CLIPS)
def test_the_rim_shows_no_seam(spoken: dict[str, NDArray[Any]], clip: str) -> None:
    """Steps across the patch's edge, against those of the frame it was pasted into."""
    worse = []
    for i in range(0, len(spoken[clip]), 20):  # drawing is slow
        own = draw_face(pose_of(i))
        worse.append(_step(face(spoken[clip][i], i)) - _step(own))
    print(
        f"{clip}: step across the rim {np.mean(worse):.2f} grey levels more, at most {max(worse):.2f}"
    )
    assert np.mean(worse) <= 1.5


def _step(square: NDArray[Any]) -> float:
    """Mean difference between the pixels to both sides of the patch's edge, 4/328 inside the square."""
    edge = round(4 / 328 * len(square))
    steps = []
    for turn in range(4):
        side = np.rot90(square, turn)[:, 20:-20].astype(float)
        steps.append(np.abs(side[edge + 1] - side[edge - 2]).mean())
    return float(np.mean(steps))


def test_the_mouth_is_right_and_the_face_is_the_avatars(spoken: dict[str, NDArray[Any]]) -> None:
    """Against the drawing of the same moment: the eyes nearly exact, the mouth as well as it can."""
    truth = truth_of("woman")
    away, mouth = [], []
    for i in range(0, len(truth["mouth"]), 40):
        drawn = draw_face(pose_of(i), Mouth(*truth["mouth"][i])).astype(int)
        wrong = np.abs(face(spoken["woman"][i], i).astype(int) - drawn)
        half = len(drawn) // 2
        away.append(wrong[: half - 20].mean())
        mouth.append(wrong[half:].mean())
    print(
        f"mean error: upper face {np.mean(away):.2f}, lower face {np.mean(mouth):.2f} grey levels"
    )
    assert np.mean(away) < 3.0
    assert np.mean(mouth) < 6.0
