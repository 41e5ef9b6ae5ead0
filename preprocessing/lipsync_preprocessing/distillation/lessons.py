"""Lessons: frames of the avatar and audio windows, with the patch that the teacher returns for each.

In the service a generator gets a frame's own face as the visible and as the masked input. So it does here;
the truth is the teacher's patch, and no recording of the person is needed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lipsync_preprocessing.avatar.pack import map_faces, write_faces
from lipsync_preprocessing.contract import FACE
from lipsync_preprocessing.dataset.types import Image
from lipsync_preprocessing.distillation.speech import Moments, Voices
from lipsync_preprocessing.distillation.teacher import ServedGenerator
from lipsync_preprocessing.errors import TrainingError
from lipsync_preprocessing.networks.layers import WHOLE, Place
from lipsync_preprocessing.training.pairs import (
    Batch,
    crop_places,
    network_input,
    random_place,
    to_pixels,
    to_target,
)

Numbers = npt.NDArray[np.int64]

FACES, TRUTHS, DONE = "faces.raw", "truths.npy", "truths.done"
_EVERY = 10  # of as many frames one is held out
_MOST_HELD_OUT = 50  # frames
_PROBES = 400  # patches that show how the mouth moves
_TIMES = 4  # moments of audio with each frame, at least: of a long loop not all frames are taught
_QUIET = 0.1  # of the pairs; half of them silence, half faint noise
_MOVED, _MOVED_WEIGHT, _AROUND = 8.0, 3.0, 9  # grey levels, a factor more in the loss, pixels
_SAVED = 64  # truths between two notes of how many there are


@dataclass(frozen=True)
class Plan:
    """The rows of the lessons, each a frame and a moment of the audio.

    Attributes:
        frames: numbers of frames [n].
        moments: of the voices [n,2].
        rests: the rows of the same frames in silence [n].
        quiet: rows of silence and faint noise with held-out frames.
        held_out: rows of frames and speech that the training never meets, in the order of the speech.
        train: rows of the training.
    """

    frames: Numbers
    moments: Moments
    rests: Numbers
    quiet: slice
    held_out: slice
    train: slice


def make_plan(frames: int, voices: Voices, pairs: int) -> Plan:
    """Return the rows for an avatar of so many frames: the same for the same arguments."""
    rng = np.random.default_rng(7)
    known, unknown = _parts(frames)
    known, unknown = _spread(known, max(1, pairs // _TIMES)), _spread(unknown, _MOST_HELD_OUT)
    quiet = rng.random(pairs)
    moments = voices.train[rng.integers(0, len(voices.train), pairs)]
    noise = voices.noise[rng.integers(0, len(voices.noise), pairs)]
    moments = np.where(quiet[:, None] < _QUIET, noise, moments)
    moments[quiet < _QUIET / 2] = voices.silence
    faint = rng.integers(0, len(voices.held_out_noise), len(unknown))
    turns = np.arange(len(voices.held_out)) % len(unknown)
    taught = rng.integers(0, len(known), pairs)
    k, u = np.arange(len(known)), len(known) + np.arange(len(unknown))
    # Frames, moments, and rows of the same frame in silence.
    sections = [
        (known, _silence(voices, known), k),
        (unknown, _silence(voices, unknown), u),
        (unknown, voices.held_out_noise[faint], u),
        (unknown[turns], voices.held_out, u[turns]),
        (known[taught], moments, taught),
    ]
    numbers, audio, rests = (np.concatenate(part) for part in zip(*sections, strict=True))
    _, *edges, end = np.cumsum([0, *(len(part) for part, _, _ in sections)]).tolist()
    return Plan(
        numbers,
        audio,
        rests,
        quiet=slice(edges[0], edges[2]),
        held_out=slice(edges[2], edges[3]),
        train=slice(edges[3], end),
    )


def write_lessons(
    folder: Path,
    pack: Path,
    plan: Plan,
    voices: Voices,
    teacher: ServedGenerator,
    report: Callable[[int, int], None],
) -> None:
    """Write the faces and the teacher's patches into a folder; what an interrupted call left is gone on from.

    Raises:
        TrainingError: the disk has no room.
    """
    count = len(plan.frames)
    path, note = folder / TRUTHS, folder / DONE
    done = int(note.read_text()) if note.is_file() and path.is_file() else 0
    if not done:
        _reserve(path, (count, FACE, FACE, 3))
    if not (folder / FACES).is_file():
        scratch = folder / f"{FACES}.partial"
        write_faces(pack, scratch)
        scratch.replace(folder / FACES)
    truths = np.load(path, mmap_mode="r+")
    while done < count:
        until = min(done + _SAVED, count)
        windows = voices.windows(plan.moments[done:until]).numpy()
        for patch in teacher.patches(plan.frames[done:until].tolist(), windows):
            truths[done] = patch
            done += 1
            report(done, count)
        truths.flush()
        note.write_text(str(done))


class Lessons:
    """The lessons as pairs; a PairSource.

    Attributes:
        plan: their rows.
        faces: uint8 [K,320,320,3] BGR, of the avatar's frames.
        truths: uint8 [n,320,320,3] BGR, the teacher's patches.
        region: the part of the face that is taught.
    """

    def __init__(self, folder: Path, plan: Plan, voices: Voices) -> None:
        self.plan, self._voices = plan, voices
        self.faces: Image = map_faces(folder / FACES)
        self.truths: Image = np.load(folder / TRUTHS, mmap_mode="r")
        self._places = crop_places((0.5, 0.5))
        self._weights = torch.ones(FACE, FACE)
        self.region: Place = WHOLE

    def look_at(self, mouth: tuple[float, float], weights: Tensor, region: Place) -> None:
        """Take weights of pixels [320,320], and a region of the face alone.

        Of the whole face, crops lie about the mouth, given as x and y in parts of the face's side.
        """
        self._places, self._weights, self.region = crop_places(mouth), weights, region

    def probes(self) -> tuple[list[Image], list[Image], list[Image]]:
        """Return patches of the training part; for each the patch of its frame in silence, and its face."""
        chosen = _spread(rows(self.plan.train), _PROBES)
        spoken = [self.truths[row] for row in chosen]
        rests = [self.truths[self.plan.rests[row]] for row in chosen]
        return spoken, rests, [self.faces[self.plan.frames[row]] for row in chosen]

    def batch(self, rng: np.random.Generator, size: int, crop: bool = False) -> Batch:
        """Return `size` pairs of the training part."""
        whole = self.region == WHOLE
        at = random_place(rng, self._places) if crop and whole else self.region
        return self.pairs(rng.integers(self.plan.train.start, self.plan.train.stop, size), at)

    def pairs(self, rows: Numbers, at: Place = WHOLE) -> Batch:
        """Return the pairs of these rows.

        Pixels that the teacher changes weigh more: a student learns to copy first, also a closed mouth.
        """
        own = torch.stack([to_pixels(self.faces[self.plan.frames[row]], at) for row in rows])
        truths = torch.stack([to_pixels(self.truths[row], at) for row in rows])
        audio = self._voices.windows(self.plan.moments[rows])
        moved = ((truths - own).abs().mean(1, keepdim=True) > _MOVED).float()
        near = nn.functional.max_pool2d(moved, _AROUND, 1, _AROUND // 2)
        weights = self._weights[at] * (1 + _MOVED_WEIGHT * near)
        return Batch(network_input(own, own, at), audio, to_target(truths), weights, at)

    def windows(self, rows: Numbers) -> Tensor:
        """Return the audio windows of rows: float32 [n,32,16,16]."""
        return self._voices.windows(self.plan.moments[rows])


def rows(part: slice) -> Numbers:
    """Return the numbers of a part's rows."""
    return np.arange(part.start, part.stop)


def _reserve(path: Path, shape: tuple[int, ...]) -> None:
    """Make an .npy file with room on the disk: a mapped file that finds none later ends the process."""
    np.lib.format.open_memmap(path, "w+", np.uint8, shape).flush()
    size = path.stat().st_size
    try:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        path.unlink()
        free = shutil.disk_usage(path.parent).free
        raise TrainingError(
            f"{path}: expected {size >> 20} MiB of free disk for the lessons, got {free >> 20}; choose"
            " another folder with --work, or fewer --pairs"
        ) from error


def _parts(frames: int) -> tuple[Numbers, Numbers]:
    """Return the frames of the training and the held-out ones, one of ten all over the loop.

    The avatar shows them all, so a part of the loop that was never taught would be seen.
    """
    numbers = np.arange(frames)
    held = numbers % _EVERY == min(_EVERY // 2, frames - 1)
    return (numbers[~held], numbers[held]) if frames > 1 else (numbers, numbers)


def _spread(numbers: Numbers, most: int) -> Numbers:
    """Return at most so many of the numbers, evenly spread."""
    if len(numbers) <= most:
        return numbers
    chosen: Numbers = numbers[np.linspace(0, len(numbers) - 1, most).round().astype(int)]
    return chosen


def _silence(voices: Voices, numbers: Numbers) -> Moments:
    return np.repeat(voices.silence[None], len(numbers), axis=0)
