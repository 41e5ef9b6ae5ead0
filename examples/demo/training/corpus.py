"""The training corpus: clips of speech with the mouth of each frame, and the effects of rooms and microphones."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, sosfilt
from sentences import sentence
from speech import SAMPLE_RATE, Phoneme, speak
from visemes import mouth_track

sys.path.append(str(Path(__file__).resolve().parents[3] / "model_repository/mel/1"))
from lipsync_mel import FPS, MelWindows, clip_windows, lay_out

_ACCENTS = ("gmw/en-GB-x-rp", "en-us", "gmw/en", "gmw/en-GB-scotland")
# f5 and m6 are held out for the tests.
_SPEAKERS = "f1 f2 f3 f4 m1 m2 m3 m4 m5 m7 m8 Alex Annie Andy Gene Jacky Mike adam belinda david linda klatt3 zac"

Samples = NDArray[np.float32]  # [n], 16 kHz, -1..1


@dataclass(frozen=True)
class Clip:
    """A clip of speech.

    Attributes:
        mouth: float32 [frames, 5], the mouth's parameters at each video frame.
    """

    samples: Samples
    mouth: NDArray[np.float32]


def frame_times(samples: int) -> NDArray[np.float64]:
    """Return the seconds at the middle of each video frame of a clip."""
    return (np.arange(clip_windows(samples) + 2) + 0.5) / FPS


def clip(samples: Samples, phonemes: list[Phoneme]) -> Clip:
    """Return a clip with the mouth that its phonemes demand."""
    return Clip(samples, mouth_track(phonemes, frame_times(len(samples))))


def spoken(seed: int) -> Clip:
    """Return one to three sentences in a random voice, with pauses before and after; seeded."""
    rng = random.Random(seed)
    voice = f"{rng.choice(_ACCENTS)}+{rng.choice(_SPEAKERS.split())}"
    speech = speak(sentence(rng), voice, rng.randint(110, 210), rng.randint(0, 99))
    before, after = (rng.randint(0, SAMPLE_RATE) for _ in range(2))
    shift = before / SAMPLE_RATE
    phonemes = [Phoneme(p.ipa, p.start_s + shift, p.end_s + shift) for p in speech.phonemes]
    return clip(np.pad(speech.samples, (before, after)), phonemes)


def as_recorded(samples: Samples, rng: np.random.Generator) -> Samples:
    """Return the clip as heard through a random room, microphone, gain and noise; its length stays."""
    audio = samples.astype(np.float64)
    if rng.random() < 0.4:
        audio = _in_a_room(audio, rng)
    if rng.random() < 0.5:
        audio = _filtered(audio, 1, rng.uniform(60, 400), "high")
    if rng.random() < 0.5:
        audio = _filtered(audio, 2, rng.uniform(2800, 7600), "low")
    if rng.random() < 0.5:  # a shelf filter: brighter or duller
        audio = audio + rng.uniform(-0.6, 1.5) * _filtered(audio, 1, 1500, "high")
    for _ in range(rng.integers(0, 4)):  # bands of other throats and microphones
        middle = 10 ** rng.uniform(2.3, 3.7)
        band = _filtered(audio, 1, np.array([0.75, 1.33]) * middle, "band")
        audio = audio + rng.uniform(-0.7, 1.5) * band
    peak = np.abs(audio).max() or 1.0
    audio *= 10 ** (rng.uniform(-26, -0.5) / 20) / peak
    level = np.sqrt((audio**2).mean())
    if rng.random() < 0.85:
        audio = audio + _noise(len(audio), rng) * level * 10 ** (-rng.uniform(8, 50) / 20)
    return np.clip(audio, -1.0, 1.0).astype(np.float32)


def silent(seed: int) -> Clip:
    """Return two seconds without speech (silence, noise or clicks) and with a closed mouth."""
    rng = np.random.default_rng(seed)
    length = 2 * SAMPLE_RATE
    audio = np.zeros(length)
    kind = rng.integers(6)
    if kind == 1:
        audio[rng.integers(0, length, 6)] = 1.0
        audio /= np.sqrt((audio**2).mean())
    elif kind > 1:
        audio = _noise(length, rng)
    audio *= 10 ** (-rng.uniform(25, 90) / 20)
    return clip(audio.astype(np.float32), [])


def _in_a_room(audio: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the audio with its echoes; its length stays."""
    tail = int(SAMPLE_RATE * rng.uniform(0.05, 0.5))
    room = rng.standard_normal(tail) * np.exp(-6.0 * np.arange(tail) / tail)
    room *= rng.uniform(0.1, 0.6) / np.sqrt((room**2).sum())
    room[0] += 1.0
    return np.asarray(fftconvolve(audio, room)[: len(audio)])


def _noise(length: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return noise with a mean square of 1: white to brown, of a fan, or the hum of the mains."""
    kind = rng.integers(3)
    if kind == 0:  # hiss and rooms: their power falls with the frequency, by some power of it
        frequencies = np.maximum(np.fft.rfftfreq(length, 1 / SAMPLE_RATE), 20.0)
        spectrum = np.fft.rfft(rng.standard_normal(length))
        noise = np.fft.irfft(spectrum * frequencies ** -rng.uniform(0.0, 1.0), length)
    elif kind == 1:
        noise = _filtered(rng.standard_normal(length), 1, rng.uniform(50, 3000), "low")
    else:
        times = np.arange(length) / SAMPLE_RATE
        harmonics = rng.choice([50, 60]) * np.arange(1, 13)
        parts = rng.uniform(0.0, 1.0, 12) / np.arange(1, 13) ** rng.uniform(0.0, 1.5)
        phases = rng.uniform(0.0, 2 * np.pi, 12)
        noise = parts @ np.sin(2 * np.pi * np.outer(harmonics, times) + phases[:, None])
        noise += 0.3 * noise.std() * rng.standard_normal(length) * rng.random()
    return np.asarray(noise / np.sqrt((noise**2).mean()))


def _filtered(
    audio: NDArray[np.float64], order: int, hertz: float | NDArray[np.float64], kind: str
) -> NDArray[np.float64]:
    return np.asarray(sosfilt(butter(order, hertz, kind, fs=SAMPLE_RATE, output="sos"), audio))


def faster(spoken_clip: Clip, factor: float) -> Clip:
    """Return the clip played faster and higher, or slower and lower, as if from another vocal tract."""
    audio = np.asarray(
        soxr.resample(spoken_clip.samples, SAMPLE_RATE * factor, SAMPLE_RATE), np.float32
    )
    times = (np.arange(len(spoken_clip.mouth)) + 0.5) / FPS
    at = frame_times(len(audio)) * factor
    columns = [np.interp(at, times, c, right=0.0) for c in spoken_clip.mouth.T]
    return Clip(audio, np.stack(columns, axis=1).astype(np.float32))


_mel: list[MelWindows] = []


def mel_windows(samples: Samples) -> NDArray[np.float32]:
    """Return all mel windows of a clip, float32 [F, 80, 16], by the service's own arithmetic."""
    if not _mel:
        _mel.append(MelWindows())
    plan = lay_out(len(samples), max_frames=1 << 30)
    return _mel[0](samples, 0, plan)[:, 0]
