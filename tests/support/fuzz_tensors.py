"""Inputs made by chance, most of them wrong in one way or another, all of them from a seed."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.utils import serialize_byte_tensor

INPUTS = {
    "toy": ("AUDIO", "AUDIO_START", "CLIP_SAMPLES", "FRAME_START", "FRAME_COUNT", "LOOP_OFFSET"),
    "mel": ("AUDIO", "AUDIO_START", "CLIP_SAMPLES", "FRAME_START", "FRAME_COUNT", "LOOP_OFFSET"),
    "stream": ("AUDIO", "AVATAR", "OUTPUT", "LOOP_OFFSET"),
    "audio_encoder": ("mel",),
    "audio_window": ("embedding", "index"),
    "toy_generator": ("loop_index", "audio"),
    "toy_compositor": ("PATCH", "LOOP_INDEX"),
    "nobody": ("AUDIO",),
}
TYPES = {
    "FP32": np.float32, "FP64": np.float64, "FP16": np.float16, "INT64": np.int64, "INT32": np.int32,
    "INT8": np.int8, "UINT8": np.uint8, "UINT64": np.uint64, "BOOL": np.bool_, "BYTES": np.object_,
}  # fmt: skip
LARGEST = {
    "FP16": float(np.finfo(np.float16).max),
    "FP32": float(np.finfo(np.float32).max),
    "FP64": float(np.finfo(np.float64).max),
}
TRUE_TYPES = {
    "AUDIO": "FP32",
    "AVATAR": "BYTES",
    "OUTPUT": "BYTES",
    "PATCH": "UINT8",
} | dict.fromkeys(("mel", "embedding", "audio"), "FP32")
TRUE_SHAPES = {
    "mel": (2, 1, 80, 16), "embedding": (3, 512), "index": (2, 16),
    "loop_index": (2, 1), "audio": (2, 32, 16, 16),
    "PATCH": (2, 320, 320, 3), "LOOP_INDEX": (2, 1),
}  # fmt: skip
SIZES = (0, 1, 2, 3, 16, 64)
MOST_ELEMENTS = 2**20
NUMBERS = (0, 1, -1, 8, 31, 32, 33, 640, 10**6, 2**31 - 1, 2**31, 2**62, 2**63 - 1, -(2**63))
WORDS = (
    b"toy",
    b"wide",
    b"mel",
    b"stream",
    b"",
    b"\x00" * 40,
    b"\xff" * 300,
    b"../x",
    b"JPEG",
    b"H264",
)


@dataclass(frozen=True)
class Tensor:
    """One input: what is declared, and what is sent."""

    name: str
    kind: str
    shape: tuple[int, ...]
    data: bytes
    array: NDArray[Any]


class RandomTensors:
    """A sequence of random inputs; the same seed gives the same."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.numbers = np.random.default_rng(seed)

    def tensors(self, model: str) -> list[Tensor]:
        """Inputs of a model: each may lack, or be wrong in its name, type, shape or contents."""
        if self.maybe(0.4) and model in ("toy", "stream"):
            return self._right(model)
        found = [self._tensor(name) for name in INPUTS[model] if name == "AUDIO" or self.maybe(0.7)]
        if self.maybe(0.1):
            found.append(self._tensor(self.chance.choice(("SOUND", "", "FRAMES", "é" * 50))))
        if self.maybe(0.05) and found:
            found.append(found[0])
        if self.maybe(0.05):
            found.clear()
        return found

    def maybe(self, share: float) -> bool:
        """Return True with this chance."""
        return self.chance.random() < share

    def garbage(self) -> bytes:
        """Return up to 10,000 random bytes."""
        return self.chance.randbytes(self.chance.choice((0, 1, 9, 100, 10_000)))

    def _right(self, model: str) -> list[Tensor]:
        """Inputs that are as they should be."""
        audio = 0.1 * self.numbers.standard_normal(6400).astype(np.float32)
        found = [Tensor("AUDIO", "FP32", audio.shape, audio.tobytes(), audio)]
        if model == "stream":
            name = np.array([b"toy"], np.object_)
            found.append(Tensor("AVATAR", "BYTES", (1,), serialize_byte_tensor(name).item(), name))
        return found

    def _tensor(self, name: str) -> Tensor:
        kind = TRUE_TYPES.get(name, "INT64") if self.maybe(0.85) else self.chance.choice([*TYPES])
        shape = TRUE_SHAPES.get(name, (1,))
        if name == "AUDIO":
            shape = (self.chance.choice((0, 1, 199, 3000, 6400, 20_000, 100_000)),)
        if self.maybe(0.15):
            shape = tuple(self.chance.choice(SIZES) for _ in range(self.chance.randint(0, 5)))
            while math.prod(shape) > MOST_ELEMENTS:
                shape = shape[1:]
        array = self._array(kind, shape)
        data = array.tobytes()
        if kind == "BYTES":
            data = serialize_byte_tensor(array).item() if array.size else b""
        if self.maybe(0.1):
            data = data[: self.chance.randint(0, len(data))] + self.garbage()[:50]
        if self.maybe(0.1):
            shape = tuple(self.chance.choice(NUMBERS) for _ in range(self.chance.randint(0, 3)))
        return Tensor(name, kind, shape, bytes(data), array)

    def _array(self, kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
        if kind == "BYTES":
            count = int(np.prod(shape, dtype=np.int64))
            words = [self.chance.choice(WORDS) for _ in range(min(count, 1000))]
            array = np.empty(len(words), np.object_)
            array[:] = words
            return array
        dtype = TYPES[kind]
        if np.issubdtype(dtype, np.floating):
            array = self.numbers.standard_normal(shape).astype(dtype)
            if self.maybe(0.2) and array.size:
                odd = (np.nan, np.inf, -np.inf, LARGEST[kind], 5e-324)
                array.flat[self.numbers.integers(array.size)] = self.chance.choice(odd)
            return array
        array = np.zeros(shape, dtype)
        if array.size:
            with np.errstate(all="ignore"):
                array[...] = np.array(self.chance.choice(NUMBERS)).astype(dtype)
        return array
