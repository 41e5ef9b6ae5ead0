"""The spectrum of the model `mel` is librosa's."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
from lipsync_spectrum import magnitudes, mel_filters

from support.triton_calls import speech

SIZE, HOP = 800, 200


@pytest.mark.parametrize("samples", [800, 999, 1000, 16_000])
def test_magnitudes(samples: int) -> None:
    wave = speech(1.0)[:samples].astype(np.float64)
    theirs = np.abs(librosa.stft(wave, n_fft=SIZE, hop_length=HOP, win_length=SIZE, center=False))
    ours = magnitudes(wave, SIZE, HOP)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 1e-12  # theirs are made with scipy's transform


@pytest.mark.parametrize(("bands", "low", "high"), [(80, 55.0, 7600.0), (40, 0.0, 8000.0)])
def test_filters(bands: int, low: float, high: float) -> None:
    theirs = librosa.filters.mel(sr=16_000, n_fft=SIZE, n_mels=bands, fmin=low, fmax=high)
    assert np.array_equal(mel_filters(16_000, SIZE, bands, low, high), theirs)
