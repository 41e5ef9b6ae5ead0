"""The oracle against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from support import oracle


def test_the_contracts_own_check() -> None:
    columns = 1 + 718_147 // 200
    assert columns == 3591
    assert oracle.window_count(columns) == 1119  # and so 1121 frames


def test_f_is_the_float_expression() -> None:
    assert 368 * 25 / 80 == 115
    assert oracle.window_count(16 + 368) == 114 + 2


def test_silence_is_the_lowest_level() -> None:
    assert (oracle.mel(np.zeros(16000)) == -4).all()


def test_columns_and_shortest_clip() -> None:
    assert oracle.mel(np.zeros(16000)).shape == (80, 81)
    assert oracle.mel(np.zeros(1)).shape == (80, 16)


def test_a_tone_lights_its_band() -> None:
    wave = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    band = oracle.mel(wave)[:, 40].argmax()
    # Slaney's scale is linear below 1 kHz, 200/3 Hz a mel: 1 kHz is mel 15; 55 Hz is 0.825; 7.6 kHz is
    # 15 + 27 ln(7.6)/ln(6.4) = 44.50. 82 points between: 1 kHz lies at (15 - 0.825)/0.5392 - 1 = 25.3.
    assert band == 25


def test_windows_begin_every_3_2_columns_and_end_with_the_last_16() -> None:
    ramp = np.tile(np.arange(81.0), (80, 1))
    windows = oracle.mel_windows(ramp)
    assert len(windows) == int(65 / 80 * 25) + 2 == 22
    assert [int(w[0, 0]) for w in windows[:6]] == [0, 3, 6, 9, 12, 16]
    assert [int(w[0, 0]) for w in windows[-3:]] == [60, 64, 65]


def test_context_is_padded_with_zero_vectors() -> None:
    features = np.arange(1.0, 4.0, dtype=np.float32)[:, None].repeat(512, axis=1)
    blocks = oracle.audio_inputs(features).reshape(5, 16, 512)[:, :, 0]
    assert blocks[0].tolist() == [0] * 8 + [1, 1, 2, 3, 3] + [0] * 3
    assert blocks[4].tolist() == [0] * 4 + [1, 1, 2, 3, 3] + [0] * 7


@pytest.mark.parametrize(
    ("count", "order"),
    [(4, [1, 2, 3, 2, 1, 0, 1, 2]), (2, [1, 0, 1, 0]), (1, [0, 0, 0])],
)
def test_ping_pong(count: int, order: list[int]) -> None:
    assert [oracle.pose_to_frame(i, count) for i in range(len(order))] == order


def test_only_the_rim_of_the_masked_face_stays() -> None:
    dataset = oracle.Dataset.__new__(oracle.Dataset)
    dataset.frames = [np.full((400, 400, 3), 255, np.uint8)]
    dataset.rects = [(10, 10, 338, 338)]
    face, masked = np.split(dataset.visual_input(0), 2)
    assert (face == 1).all()
    rows, columns = np.nonzero(masked[0] == 0)
    assert (rows.min(), rows.max()) == (5, 309)
    assert (columns.min(), columns.max()) == (5, 314)


def test_pixels_are_truncated_not_rounded() -> None:
    dataset = oracle.Dataset.__new__(oracle.Dataset)
    dataset.frames = [np.zeros((400, 400, 3), np.uint8)]
    dataset.rects, dataset.parsing = [(0, 0, 328, 328)], [None]
    frame = dataset.paste(0, np.full((3, 320, 320), 0.999, np.float32))
    assert frame[100, 100].tolist() == [254, 254, 254]
    assert frame[2, 2].tolist() == [0, 0, 0]  # the crop's border of four pixels stays


def test_the_level_of_a_tone() -> None:
    """1 kHz at half of full scale, by hand.

    It lies on bin 50 of 20 Hz: 0.5 * 800 / 4 = 100 there and 50 in its neighbours (Hann), times
    |1 - 0.97 exp(-i 2 pi / 16)| = 0.38545 of the pre-emphasis. Band 25 is the triangle 953.7, 989.6,
    1026.7 Hz of height 2 / 73.0: weights 0.7326, 0.7197, 0.1806 at 980, 1000, 1020 Hz.
    """
    level = 2 / 73.0 * 0.38545 * (50 * 0.7326 + 100 * 0.7197 + 50 * 0.1806)
    expected = 8 * (20 * np.log10(level) - 20 + 100) / 100 - 4
    assert expected == pytest.approx(2.551, abs=0.002)
    wave = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    assert oracle.mel(wave)[25, 40] == pytest.approx(expected, abs=0.01)


def test_pre_emphasis_takes_the_first_sample_as_it_is() -> None:
    """A constant 1 becomes 1, 0.03, 0.03 …; a click of 1 and nothing else becomes 1, -0.97, 0 …"""
    constant = oracle.mel(np.ones(16000))
    # In the middle 0.03 of constant: its window has bins 0 and 1 (20 Hz) only, under the lowest band.
    assert (constant[:, 40] == -4).all()
    assert constant[:, 0].max() > 0  # the step from the zero padding to 1
    click = np.zeros(16000)
    click[4000] = 1.0
    spectrum = oracle.mel(click)
    # The window of column 20 is centred on the click, those of 18 and 22 end at it, where Hann is 0.
    assert [t for t in range(81) if (spectrum[:, t] > -4).any()] == [19, 20, 21]
    # |1 - 0.97 exp(-iw)| is 0.03 at 0 Hz and 1.97 at 8 kHz: the highest band is the loudest, but for
    # the norm 2 / bandwidth, which only takes from it.
    assert spectrum[:, 20].argmax() > 30


def test_loud_is_the_highest_level() -> None:
    wave = 1e6 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    assert oracle.mel(wave).max() == 4


def test_the_block_is_the_sixteen_entries_row_after_row() -> None:
    features = np.arange(20 * 512, dtype=np.float32).reshape(20, 512)
    block = oracle.audio_inputs(features)[10]  # entries 2 … 17 are f[1] … f[16]
    assert block.shape == (32, 16, 16)
    assert block[0, 0, 0] == 512
    assert block[1, 15, 15] == 512 + 511  # two planes an entry
    assert block[2, 0, 0] == 2 * 512
    assert block[31, 15, 15] == 17 * 512 - 1


@pytest.mark.parametrize(
    ("samples", "frames"),
    [
        (1, 4), (3000, 4), (3199, 4), (3200, 4), (3600, 4), (3799, 4), (3800, 5),
        (16_000, 24), (76_600, 118), (76_799, 118), (163_520, 254), (718_147, 1121),
    ],
)  # fmt: skip
def test_frames_of_a_clip(samples: int, frames: int) -> None:
    """(T - 16) / 3.2 cut off, and 4: 3,800 samples have T = 20 and 1.25; 76,600 the 368 of the float form."""
    assert len(oracle.mel_windows(oracle.mel(np.zeros(samples)))) + 2 == frames


def dataset(frame: NDArray[Any], rect: tuple[int, int, int, int]) -> oracle.Dataset:
    made = oracle.Dataset.__new__(oracle.Dataset)
    made.frames, made.rects, made.parsing = [frame], [rect], [None]
    return made


def test_landmarks_are_cut_to_integers_and_the_rectangle_to_the_frame(tmp_path: Path) -> None:
    points = [f"{n}.9 {n}.9" for n in range(60)]
    points[1], points[52], points[31] = "-20.7 3.3", "5.5 40.9", "79.9 8.1"
    (tmp_path / "0.lms").write_text("\n".join(points))
    made = dataset(np.zeros((120, 90, 3), np.uint8), (0, 0, 0, 0))
    # x1 = -20, y1 = 40, x2 = 79: side 99, so y2 = 139, and all of it within 90 x 120.
    assert made._rect(tmp_path / "0.lms") == (0, 40, 79, 120)


def test_nothing_outside_the_rectangle_changes() -> None:
    made = dataset(np.full((200, 300, 3), 7, np.uint8), (50, 20, 214, 184))
    frame = made.paste(0, np.ones((3, 320, 320), np.float32))
    changed = np.argwhere((frame != 7).any(axis=2))
    # Half of 328: the border of four becomes two, and bicubic reaches one pixel into it.
    assert changed.min(axis=0).tolist() in ([21, 51], [22, 52])
    assert changed.max(axis=0).tolist() in ([182, 212], [181, 211])
    assert (frame[30:170, 60:200] == 255).all()


def test_parsing_keeps_red_and_white() -> None:
    made = dataset(np.full((400, 400, 3), 7, np.uint8), (20, 30, 348, 358))
    colours = np.zeros((400, 400, 3), np.uint8)
    colours[100] = (0, 0, 255)  # red, as OpenCV has it
    colours[101] = (255, 255, 255)
    colours[102] = (255, 0, 0)  # blue
    colours[103] = (0, 0, 254)
    made.parsing = [colours]
    frame = made.paste(0, np.ones((3, 320, 320), np.float32))
    assert frame[99:104, 100, 0].tolist() == [255, 7, 7, 255, 255]


def test_colours_and_scale_of_the_generators_input() -> None:
    frame = np.zeros((400, 400, 3), np.uint8)
    frame[:] = (51, 102, 204)
    made = dataset(frame, (0, 0, 328, 328))
    visual = made.visual_input(0)
    assert visual.shape == (6, 320, 320)
    assert visual.dtype == np.float32
    assert visual[:, 0, 0].tolist() == pytest.approx([0.2, 0.4, 0.8] * 2)  # the rim shows in both
    assert visual[:, 100, 100].tolist() == pytest.approx([0.2, 0.4, 0.8, 0, 0, 0])


def test_other_rates_and_channels(tmp_path: Path) -> None:
    """A stereo tone at 48 kHz, one channel silent: half as loud, and a third of the samples."""
    tone = np.sin(2 * np.pi * 440 * np.arange(48000) / 48000)
    soundfile.write(tmp_path / "s.wav", np.stack([tone, 0 * tone], 1), 48000, subtype="FLOAT")
    wave = oracle.load_audio(tmp_path / "s.wav")
    assert wave.shape == (16000,)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert np.abs(wave - expected)[500:-500].max() < 1e-3
