"""The oracle against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import oracle
import pytest


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
