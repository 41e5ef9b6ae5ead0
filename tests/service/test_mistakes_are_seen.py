"""The comparison can fail: each likely mistake in the pipeline would be seen by it.

A mistake is made in the oracle itself, and its frames are held against the true ones as the service's are.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from support import oracle
from support.decoded_frames import assert_same_frames
from support.oracle import Oracle
from support.triton_calls import speech

pytestmark = pytest.mark.slow

SECONDS = 0.6


def replace(
    module: Any, name: str, new: Callable[..., Any]
) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(module, name, new)


def windows_from(column: Callable[[int], int]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def windows(spectrogram: NDArray[Any]) -> NDArray[Any]:
        last = spectrogram.shape[1] - 16
        starts = [min(column(j), last) for j in range(oracle.window_count(last + 16))]
        return np.asarray([spectrogram[:, s : s + 16] for s in starts], np.float32)

    return windows


def context(before: int, repeat_ends: bool) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def inputs(features: NDArray[Any]) -> NDArray[Any]:
        entries = [features[0], *features, features[-1]]
        ends = 1 if repeat_ends else 0
        padded = [*[ends * entries[0]] * before, *entries, *[ends * entries[-1]] * (16 - before)]
        blocks = [np.stack(padded[i : i + 16]) for i in range(len(entries))]
        return np.reshape(blocks, (-1, 32, 16, 16))

    return inputs


true_audio, true_input, true_pose = oracle.audio_inputs, Oracle.audio, oracle.pose_to_frame
true_visual = oracle.Dataset.visual_input
true_crop, true_paste = oracle.Dataset.crop, oracle.Dataset.paste
true_resize, true_bank, true_mel = cv2.resize, oracle.mel_bank, oracle.mel


def without_emphasis(wave: NDArray[Any]) -> NDArray[Any]:
    """Return the signal that pre-emphasis turns into `wave`."""
    return np.asarray(list(accumulate(wave, lambda before, sample: sample + 0.97 * before)))


def deaf(self: Oracle, wave: NDArray[Any]) -> NDArray[Any]:
    return true_input(self, 0 * wave)


def rounded(self: oracle.Dataset, k: int, output: NDArray[Any]) -> NDArray[Any]:
    return true_paste(self, k, output + np.float32(0.5 / 255))


def whole_crop(self: oracle.Dataset, k: int, output: NDArray[Any]) -> NDArray[Any]:
    """The patch resized over the border of four pixels."""
    big = true_resize(output.transpose(1, 2, 0), (328, 328)).transpose(2, 0, 1)
    return true_paste(self, k, big[:, 4:324, 4:324])


def without_parsing(self: oracle.Dataset, k: int, output: NDArray[Any]) -> NDArray[Any]:
    kept, self.parsing = self.parsing, [None] * len(self.parsing)
    try:
        return true_paste(self, k, output)
    finally:
        self.parsing = kept


def swapped(self: oracle.Dataset, k: int) -> NDArray[Any]:
    return true_visual(self, k)[[2, 1, 0, 5, 4, 3]]


def not_masked(self: oracle.Dataset, k: int) -> NDArray[Any]:
    face = true_visual(self, k)[:3]
    return np.concatenate([face, face])


def mask_too_low(self: oracle.Dataset, k: int) -> NDArray[Any]:
    visual = true_visual(self, k)
    visual[3:, 310, 5:315] = 0
    return visual


def bilinear(picture: NDArray[Any], size: tuple[int, int], interpolation: int = 0) -> NDArray[Any]:
    del interpolation
    return np.asarray(true_resize(picture, size, interpolation=cv2.INTER_LINEAR))


def one_frame_late(self: Oracle, wave: NDArray[Any]) -> NDArray[Any]:
    audio = true_input(self, wave)
    return np.concatenate([audio[:1], audio[:-1]])


FRAMES = {
    "the audio is ignored": replace(Oracle, "audio", deaf),
    "the audio is a frame late": replace(Oracle, "audio", one_frame_late),
    "context i-7 ... i+8": replace(oracle, "audio_inputs", context(7, False)),
    "ends repeated": replace(oracle, "audio_inputs", context(8, True)),
    "windows every 3 columns": replace(oracle, "mel_windows", windows_from(lambda j: 3 * j)),
    "windows rounded": replace(oracle, "mel_windows", windows_from(lambda j: round(3.2 * j))),
    "the loop begins at 0": replace(oracle, "pose_to_frame", lambda i, n: true_pose(i - 1, n)),
    "the loop jumps back": replace(oracle, "pose_to_frame", lambda i, n: (i + 1) % n),
    "rgb": replace(oracle.Dataset, "visual_input", swapped),
    "no mask": replace(oracle.Dataset, "visual_input", not_masked),
    "mask a row too low": replace(oracle.Dataset, "visual_input", mask_too_low),
    "rounded pixels": replace(oracle.Dataset, "paste", rounded),
    "no border": replace(oracle.Dataset, "paste", whole_crop),
    "no parsing": replace(oracle.Dataset, "paste", without_parsing),
    "bilinear": replace(cv2, "resize", bilinear),
}
MEL = {
    "no pre-emphasis": replace(oracle, "mel", lambda wave: true_mel(without_emphasis(wave))),
    "symmetric window": replace(oracle, "hann", lambda: np.hanning(800)),
    "htk scale": replace(oracle, "mel_bank", lambda: true_bank(htk=True)),
    "no norm": replace(oracle, "mel_bank", lambda: true_bank(norm=None)),
    "up to 8 kHz": replace(oracle, "mel_bank", lambda: true_bank(fmax=8000)),
}


@pytest.fixture(scope="module")
def true_frames(oracles: dict[str, Oracle]) -> dict[str, list[NDArray[Any]]]:
    return {name: each.render(speech(SECONDS)) for name, each in oracles.items()}


@pytest.mark.parametrize("mistake", FRAMES)
def test_a_mistake_shows_in_the_frames(
    oracles: dict[str, Oracle],
    true_frames: dict[str, list[NDArray[Any]]],
    monkeypatch: pytest.MonkeyPatch,
    mistake: str,
) -> None:
    name = "wide" if mistake in ("no parsing", "the loop jumps back") else "toy"
    FRAMES[mistake](monkeypatch)
    monkeypatch.setattr(oracles[name], "_kept", {})  # made without the mistake
    wrong = oracles[name].render(speech(SECONDS))
    with pytest.raises(AssertionError):
        assert_same_frames(np.stack(wrong), true_frames[name])


@pytest.mark.parametrize("mistake", MEL)
def test_a_mistake_shows_in_the_mel(monkeypatch: pytest.MonkeyPatch, mistake: str) -> None:
    true = oracle.mel(speech(SECONDS))
    MEL[mistake](monkeypatch)
    assert np.abs(oracle.mel(speech(SECONDS)) - true).max() > 1e-3


def test_all_is_well_without_a_mistake(
    oracles: dict[str, Oracle], true_frames: dict[str, list[NDArray[Any]]]
) -> None:
    assert_same_frames(np.stack(oracles["toy"].render(speech(SECONDS))), true_frames["toy"])
