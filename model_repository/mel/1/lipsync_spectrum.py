"""The spectrum of speech: magnitudes of the short-time Fourier transform, and the bank of mel filters.

They are librosa's `stft` without centring and its `filters.mel` with Slaney's scale and norm, with which the
tests compare them. librosa itself would bring 430 MB of numba, scipy and scikit-learn, and compile on first
use.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_HZ_PER_MEL = 200.0 / 3  # Slaney's scale is linear up to 1 kHz, and logarithmic above
_LOG_FROM_HZ = 1000.0
_LOG_FROM_MEL = _LOG_FROM_HZ / _HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0


def magnitudes(samples: NDArray[np.float64], size: int, hop: int) -> NDArray[np.float64]:
    """Return the magnitudes of the Fourier transform of windows that lie wholly inside the samples.

    Args:
        samples: float64 [n], n >= size.
        size: length of a window, in samples; its shape is a periodic Hann window.
        hop: samples from one window to the next.

    Returns:
        float64 [size / 2 + 1, 1 + (n - size) / hop].
    """
    hann = 0.5 + 0.5 * np.cos(np.linspace(-np.pi, np.pi, size + 1)[:-1])
    windows = np.lib.stride_tricks.sliding_window_view(samples, size)[::hop]
    return np.abs(np.fft.rfft(hann * windows, axis=1)).T


def mel_filters(rate: int, size: int, bands: int, low: float, high: float) -> NDArray[np.float32]:
    """Return triangular filters of equal area, evenly spaced on Slaney's mel scale.

    Args:
        rate: samples per second.
        size: length of the Fourier transform.
        bands: number of filters.
        low, high: lowest and highest frequency, Hz.

    Returns:
        float32 [bands, size / 2 + 1], to be multiplied with magnitudes.
    """
    lowest, highest = _mel(np.array([low, high]))
    edges = _hz(np.linspace(lowest, highest, bands + 2))
    ramps = np.subtract.outer(edges, np.fft.rfftfreq(size, 1.0 / rate))
    widths = np.diff(edges)[:, None]
    rising, falling = -ramps[:-2] / widths[:-1], ramps[2:] / widths[1:]
    filters = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    area = 2.0 / (edges[2:] - edges[:-2])
    return np.asarray(filters * area[:, None], np.float32)


def _mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    logarithmic = _LOG_FROM_MEL + np.log(np.maximum(hz, 1.0) / _LOG_FROM_HZ) / _LOG_STEP
    return np.where(hz >= _LOG_FROM_HZ, logarithmic, hz / _HZ_PER_MEL)


def _hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    logarithmic = _LOG_FROM_HZ * np.exp(_LOG_STEP * (mel - _LOG_FROM_MEL))
    return np.where(mel >= _LOG_FROM_MEL, logarithmic, _HZ_PER_MEL * mel)
