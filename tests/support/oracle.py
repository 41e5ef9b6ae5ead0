"""The contract in plain code: slow, obvious, and without anything of the product.

Every fast path is held to it. It reads a raw dataset folder and two ONNX files, takes a whole clip
at 16 kHz, and gives the frames.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import librosa
import numpy as np
import onnxruntime
import soundfile
import soxr
from numpy.typing import NDArray

KEPT_CLIPS = 4
BANK: dict[str, Any] = {
    "sr": 16000,
    "n_fft": 800,
    "n_mels": 80,
    "fmin": 55,
    "fmax": 7600,
    "htk": False,
    "norm": "slaney",
}


def load_audio(path: Path) -> NDArray[Any]:
    """Step 1: mono, 16 kHz; librosa.load(path, sr=16000) in its three steps.

    They are written out, because librosa's own compile for eleven seconds on their first use.
    """
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    if rate == 16000:
        return np.asarray(mono)
    size = math.ceil(len(mono) * 16000 / rate)
    resampled = soxr.resample(mono, rate, 16000, quality="soxr_hq")[:size]
    return np.pad(resampled, (0, size - len(resampled)))


def mel(wave: NDArray[Any]) -> NDArray[Any]:
    """Steps 2 to 5: float64 [80, T]."""
    if len(wave) < 3000:  # fewer than 16 columns
        wave = np.concatenate([wave, np.zeros(3000 - len(wave))])
    wave = wave.astype(np.float64)
    emphasised = wave.copy()
    emphasised[1:] = wave[1:] - 0.97 * wave[:-1]
    padded = np.concatenate([np.zeros(400), emphasised, np.zeros(400)])
    window = hann()
    columns = 1 + len(wave) // 200
    magnitude = np.stack(
        [np.abs(np.fft.rfft(padded[200 * t : 200 * t + 800] * window)) for t in range(columns)], 1
    )
    decibels = 20 * np.log10(np.maximum(1e-5, mel_bank() @ magnitude)) - 20
    return np.asarray(np.clip(8 * (decibels + 100) / 100 - 4, -4, 4))


def hann() -> NDArray[Any]:
    """Step 3: a periodic Hann window of 800 samples."""
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(800) / 800))


def mel_bank(**other: Any) -> NDArray[Any]:
    """Step 4: the filter bank, with other arguments than the contract's if any are given."""
    return np.asarray(librosa.filters.mel(**(BANK | other)))


def window_count(columns: int) -> int:
    """Step 6: F."""
    return int((columns - 16) / 80 * 25) + 2


def mel_windows(spectrogram: NDArray[Any]) -> NDArray[Any]:
    """Step 6: float32 [F, 80, 16]."""
    columns = spectrogram.shape[1]
    windows = []
    for j in range(window_count(columns)):
        start = int(80 * j / 25)
        if start + 16 > columns:
            start = columns - 16
        windows.append(spectrogram[:, start : start + 16])
    return np.asarray(np.stack(windows), np.float32)


def embeddings(windows: NDArray[Any], encoder: onnxruntime.InferenceSession) -> NDArray[Any]:
    """Step 7 without the repeats: float32 [F, 512]."""
    name = encoder.get_inputs()[0].name
    return np.stack([encoder.run(None, {name: w[None, None]})[0][0] for w in windows])


def audio_inputs(features: NDArray[Any]) -> NDArray[Any]:
    """Steps 7 and 8: float32 [F + 2, 32, 16, 16]."""
    entries = [features[0], *features, features[-1]]
    blocks = []
    for i in range(len(entries)):
        rows = [
            entries[e] if 0 <= e < len(entries) else np.zeros(512, np.float32)
            for e in range(i - 8, i + 8)
        ]
        blocks.append(np.stack(rows).reshape(32, 16, 16))
    return np.stack(blocks)


def pose_to_frame(i: int, count: int) -> int:
    """Ping-pong that starts at 1."""
    last = count - 1
    if last == 0:
        return 0
    p = (i + 1) % (2 * last)
    return p if p <= last else 2 * last - p


class Dataset:
    """A raw dataset folder."""

    def __init__(self, directory: Path) -> None:
        count = len(list((directory / "full_body_img").iterdir()))
        self.frames = [cv2.imread(str(directory / f"full_body_img/{k}.jpg")) for k in range(count)]
        self.rects = [self._rect(directory / f"landmarks/{k}.lms") for k in range(count)]
        parsing = directory / "parsing"
        self.parsing = [
            cv2.imread(str(parsing / f"{k}.png")) if parsing.exists() else None
            for k in range(count)
        ]

    def _rect(self, path: Path) -> tuple[int, int, int, int]:
        points = [[int(float(v)) for v in line.split()] for line in path.read_text().splitlines()]
        x1, y1, x2 = points[1][0], points[52][1], points[31][0]
        height, width = self.frames[0].shape[:2]
        return max(x1, 0), max(y1, 0), min(x2, width), min(y1 + x2 - x1, height)

    def crop(self, k: int) -> NDArray[Any]:
        x1, y1, x2, y2 = self.rects[k]
        crop = cv2.resize(self.frames[k][y1:y2, x1:x2], (328, 328), interpolation=cv2.INTER_CUBIC)
        return np.asarray(crop)

    def visual_input(self, k: int) -> NDArray[Any]:
        """float32 [6, 320, 320]."""
        face = self.crop(k)[4:324, 4:324]
        masked = face.copy()
        for y in range(5, 310):
            masked[y, 5:315] = 0
        both = np.concatenate([face, masked], axis=2)
        return np.asarray(both.transpose(2, 0, 1) / 255, np.float32)

    def paste(self, k: int, output: NDArray[Any]) -> NDArray[Any]:
        """uint8 (H, W, 3) from the generator's float32 [3, 320, 320]."""
        x1, y1, x2, y2 = self.rects[k]
        crop = self.crop(k)
        crop[4:324, 4:324] = (output * np.float32(255)).astype(np.uint8).transpose(1, 2, 0)
        patch = cv2.resize(crop, (x2 - x1, y2 - y1), interpolation=cv2.INTER_CUBIC)
        frame: NDArray[Any] = self.frames[k].copy()
        parsing = self.parsing[k]
        if parsing is not None:
            colours = parsing[y1:y2, x1:x2]
            for colour in ((0, 0, 255), (255, 255, 255)):
                keep = (colours == colour).all(axis=2)
                patch[keep] = frame[y1:y2, x1:x2][keep]
        frame[y1:y2, x1:x2] = patch
        return frame


class Oracle:
    """Everything that is needed to render with one avatar."""

    def __init__(self, dataset: Path, generator: Path, encoder: Path) -> None:
        self.dataset = Dataset(dataset)
        self.generator = onnxruntime.InferenceSession(str(generator))
        self.encoder = onnxruntime.InferenceSession(str(encoder))
        self._kept: dict[tuple[str, bytes, int], list[NDArray[Any]]] = {}

    def windows(self, wave: NDArray[Any]) -> NDArray[Any]:
        return mel_windows(mel(wave))

    def audio(self, wave: NDArray[Any]) -> NDArray[Any]:
        return audio_inputs(embeddings(self.windows(wave), self.encoder))

    def frame(self, i: int, audio: NDArray[Any]) -> NDArray[Any]:
        """Frame i, given its [32, 16, 16] input."""
        k = pose_to_frame(i, len(self.dataset.frames))
        feeds: dict[str, Any] = {}
        for port in self.generator.get_inputs():
            feeds[port.name] = (
                audio[None] if 32 in port.shape else self.dataset.visual_input(k)[None]
            )
        return self.dataset.paste(k, self.generator.run(None, feeds)[0][0])

    def render(self, wave: NDArray[Any], loop_offset: int = 0) -> list[NDArray[Any]]:
        """Return the frames of a clip. Those of the last few clips are kept: many tests ask for the same."""
        key = (wave.dtype.str, wave.tobytes(), loop_offset)
        if key not in self._kept:
            if len(self._kept) == KEPT_CLIPS:
                del self._kept[next(iter(self._kept))]
            audio = enumerate(self.audio(wave))
            self._kept[key] = [self.frame(i + loop_offset, a) for i, a in audio]
        return list(self._kept[key])
