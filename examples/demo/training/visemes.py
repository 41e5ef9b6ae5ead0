"""Phonemes to mouth shapes: each phoneme has a target and a dominance, by which the targets are blended.

The blending is Cohen and Massaro's (Modeling coarticulation in synthetic visual speech, 1993) in its simplest
form: at each moment the targets are averaged, weighted by dominance and by a bell curve around the moment.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from speech import Phoneme

sys.path.append(str(Path(__file__).resolve().parents[1]))
from mouth import Mouth

_STEP_S = 0.005
_SPREAD_S = 0.035  # standard deviation of the bell
_SHUT = 0.05  # a jaw below this is closed: blending alone never closes the lips completely

_REST = (Mouth(), 1.0)
# IPA -> shape and dominance.
_SHAPES: dict[str, tuple[Mouth, float]] = {}


def _add(symbols: str, dominance: float, **shape: float) -> None:
    for symbol in symbols.split():
        _SHAPES[symbol] = Mouth(**shape), dominance


_add("p b m", 8.0)
_add("f v", 4.0, jaw=0.12, width=0.1, teeth=0.95)
_add("θ ð", 2.0, jaw=0.22, teeth=0.5, tongue=0.9)
_add("t d n ɾ ʔ", 1.2, jaw=0.2, width=0.15, teeth=0.5, tongue=0.6)
_add("l ɫ", 1.2, jaw=0.3, teeth=0.3, tongue=1.0)
_add("s z", 2.0, jaw=0.12, width=0.45, teeth=0.9)
_add("ʃ ʒ", 2.5, jaw=0.2, width=-0.2, round=0.6, teeth=0.8)
_add("ɹ r ɚ", 1.5, jaw=0.24, round=0.4, teeth=0.2)
_add("k ɡ g ŋ x ç", 0.8, jaw=0.28, teeth=0.25)
_add("h ɦ", 0.4, jaw=0.35)
_add("w ʍ", 3.0, jaw=0.15, width=-0.6, round=1.0)
_add("j", 1.5, jaw=0.2, width=0.6, teeth=0.5)
_add("i", 1.5, jaw=0.25, width=0.9, teeth=0.6)
_add("ɪ", 1.2, jaw=0.32, width=0.55, teeth=0.5)
_add("e ɛ", 1.5, jaw=0.5, width=0.5, teeth=0.5)
_add("æ a", 1.8, jaw=0.8, width=0.3, teeth=0.45)
_add("ɑ", 1.8, jaw=0.9, width=-0.1, teeth=0.3)
_add("ɒ", 1.8, jaw=0.8, width=-0.3, round=0.4, teeth=0.2)
_add("ʌ ɐ", 1.5, jaw=0.6, teeth=0.35)
_add("ə", 0.9, jaw=0.38, teeth=0.3)
_add("ɜ", 1.5, jaw=0.45, width=-0.1, round=0.25, teeth=0.3)
_add("ɔ o", 1.8, jaw=0.55, width=-0.4, round=0.75)
_add("ʊ u", 1.8, jaw=0.28, width=-0.6, round=0.95)


def mouth_track(phonemes: list[Phoneme], times_s: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the mouth's parameters at each time, float32 [len(times_s), 5], in the order of Mouth's fields."""
    end = max([p.end_s for p in phonemes] + [float(times_s.max(initial=0.0))]) + 1.0
    count = int(end / _STEP_S) + 1
    rest, weight = _REST
    targets = np.tile(np.array(rest.values()), (count, 1))
    weights = np.full(count, weight)
    for phoneme in phonemes:
        parts = [_SHAPES[c] for c in phoneme.ipa if c in _SHAPES] or [_REST]
        edges = np.linspace(phoneme.start_s, phoneme.end_s, len(parts) + 1) / _STEP_S
        for (shape, dominance), begin, stop in zip(parts, edges[:-1], edges[1:], strict=True):
            at = slice(round(begin), max(round(stop), round(begin) + 1))
            targets[at], weights[at] = shape.values(), dominance
    reach = np.arange(-4 * _SPREAD_S, 4 * _SPREAD_S, _STEP_S)
    bell = np.exp(-0.5 * (reach / _SPREAD_S) ** 2)
    total = np.convolve(weights, bell, "same")
    columns = [np.convolve(weights * column, bell, "same") / total for column in targets.T]
    columns[0] = np.maximum(0.0, columns[0] - _SHUT) / (1.0 - _SHUT)
    grid = np.arange(count) * _STEP_S
    return np.stack([np.interp(times_s, grid, c) for c in columns], axis=1).astype(np.float32)
