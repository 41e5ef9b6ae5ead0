"""The speech that a student is taught with. Any voice will do: the teacher says what belongs to it."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr
import torch
from torch import Tensor

from lipsync_preprocessing.bundle.contents import IN_CHECKOUT, MODELS
from lipsync_preprocessing.contract import FRAME_RATE
from lipsync_preprocessing.errors import TrainingError
from lipsync_preprocessing.recording.audio import SAMPLE_RATE, Samples, read_audio
from lipsync_preprocessing.training.speech import Speech

Moments = npt.NDArray[np.int64]
"""Numbers of clips and of frames in them, [n,2]."""

_LEAST_S = 10.0
_HELD_OUT = 0.2  # of each file, its end
_MOST_HELD_OUT = 10 * FRAME_RATE  # frames
# Each file is also played slower and faster, and as loud as this: voices of other sizes, and other distances.
_VARIANTS = ((1.0, 1.0), (0.86, 0.5), (1.16, 0.7))
_QUIET_S = 3
_NOISE = 1e-3  # of full scale: -60 dB


def read_speech(files: Sequence[Path]) -> list[Samples]:
    """Return the speech of files: float32 [n] each, mono, 16 kHz.

    Raises:
        AvatarError: a file cannot be read, or all together are too short.
    """
    speech = [read_audio(path, Fraction(0), None) for path in files]
    if length(speech) < _LEAST_S:
        raise TrainingError(
            f"{', '.join(path.name for path in files)}: expected at least {_LEAST_S:g} s of speech, got"
            f" {length(speech):.1f} s; give more with --speech"
        )
    return speech


def length(speech: Sequence[Samples]) -> float:
    """Return the length of speech, seconds."""
    return sum(map(len, speech)) / SAMPLE_RATE


class Voices:
    """The audio windows of speech, and which of them are held out.

    Attributes:
        train, held_out: moments of speech. The held-out ones are the ends of the files, as clips of their
            own, so no audio window reaches from one part to the other.
        silence: the moment of silence.
        noise, held_out_noise: moments of faint noise.
    """

    def __init__(self, speech: Sequence[Samples], encoder: Path) -> None:
        self._encoder, self._clips = encoder, list[Speech]()
        cuts = [round((1 - _HELD_OUT) * len(samples)) for samples in speech]
        self.train = np.concatenate(
            [
                self._add(_variant(samples[:cut], factor, gain))
                for samples, cut in zip(speech, cuts, strict=True)
                for factor, gain in _VARIANTS
            ]
        )
        ends = [self._add(s[cut:]) for s, cut in zip(speech, cuts, strict=True)]
        each = -(-_MOST_HELD_OUT // len(ends))
        self.held_out = np.concatenate([moments[:each] for moments in ends])[:_MOST_HELD_OUT]
        quiet = _QUIET_S * SAMPLE_RATE
        silence = self._add(np.zeros(quiet, np.float32))
        self.silence: Moments = silence[len(silence) // 2]
        noise = np.random.default_rng(8).normal(0, _NOISE, (2, quiet)).astype(np.float32)
        self.noise, self.held_out_noise = self._add(noise[0]), self._add(noise[1])

    def windows(self, moments: Moments) -> Tensor:
        """Return the audio windows of moments: float32 [n,32,16,16]."""
        parts = [self._clips[clip].windows(np.array([frame])) for clip, frame in moments.tolist()]
        return torch.cat(parts)

    def _add(self, samples: Samples) -> Moments:
        """Add a clip; return all its moments."""
        clip = Speech(samples, self._encoder)
        self._clips.append(clip)
        frames = np.arange(len(clip))
        return np.stack([np.full_like(frames, len(self._clips) - 1), frames], axis=1)


def default_speech() -> list[Path]:
    """Return the checkout's example of speech; raise TrainingError in an installed package."""
    example = MODELS.parent / "examples/speech.wav"
    if not (IN_CHECKOUT and example.is_file()):
        raise TrainingError(
            f"expected speech to teach the student with: give at least {_LEAST_S:g} s with --speech FILE,"
            " better some minutes; any voice will do"
        )
    return [example]


def _variant(samples: Samples, factor: float, gain: float) -> Samples:
    """Return a clip played faster by a factor, and with a gain."""
    if factor == 1:
        return gain * samples
    return gain * np.asarray(soxr.resample(samples, SAMPLE_RATE * factor, SAMPLE_RATE), np.float32)
