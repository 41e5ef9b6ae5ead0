"""The figures of a student against its teacher, and the floors below which it is refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lipsync_preprocessing.bundle.contents import MODELS
from lipsync_preprocessing.contract import BORDER, CROP
from lipsync_preprocessing.dataset.types import Image
from lipsync_preprocessing.distillation.lessons import Lessons, rows
from lipsync_preprocessing.distillation.mouth import TaughtMouth
from lipsync_preprocessing.distillation.teacher import Floats
from lipsync_preprocessing.repository import COMPOSITOR, Repository
from lipsync_preprocessing.training.evaluation import best_shift, psnr, ssim

# The floors. Each is held by frames and speech that the training never met, against the teacher.
MOUTH_PSNR_DB = (
    34.0  # of the mouth in the picture: an H.264 encoding of ordinary quality is as near
)
CORRELATION = 0.98  # of the mouth's openings
SHIFT = 0  # frames
SILENCE_CLOSED = (
    0.01  # part of the frames by which fewer may be closed in silence and in faint noise
)
SEAM = 0.5  # grey levels by which the step across the patch's edge may be larger, in the mean

_ADVICE = "teach it longer (--steps), with more speech (--speech), or take a larger --width"


@dataclass(frozen=True)
class Figures:
    """A student against its teacher, on held-out frames and speech.

    Attributes:
        mouth_psnr_db, mouth_ssim: of the mouth in the rendered picture, the mean of the frames.
        patch_psnr_db: of the whole patch.
        correlation: of the mouth's opening with the teacher's.
        shift: frames by which the opening must be moved to fit best; 0 is in step.
        silence_closed, teachers_silence_closed: part of the frames for silence and faint noise with a closed
            mouth.
        seam: step across the patch's edge in the rendered picture, more than the teacher's, grey levels.
        frames: number of frames with speech.
    """

    mouth_psnr_db: float
    mouth_ssim: float
    patch_psnr_db: float
    correlation: float
    shift: int
    silence_closed: float
    teachers_silence_closed: float
    seam: float
    frames: int

    def lines(self) -> list[str]:
        """Return the figures as text."""
        return [
            f"against its teacher, {self.frames} frames with speech, both held out:",
            f"mouth in the picture: PSNR {self.mouth_psnr_db:.2f} dB, SSIM {self.mouth_ssim:.3f}; whole"
            f" patch: {self.patch_psnr_db:.2f} dB",
            f"opening of the mouth: correlation {self.correlation:.3f}, shift {self.shift:+d} frames",
            f"silence: closed in {self.silence_closed:.1%} of the frames, the teacher's in"
            f" {self.teachers_silence_closed:.1%}",
            f"step across the patch's edge: {self.seam:+.2f} grey levels against the teacher's",
        ]

    def refusal(self) -> str | None:
        """Return the sentence that says which figures are below their floors, or None."""
        least = self.teachers_silence_closed - SILENCE_CLOSED
        wrong = []
        if not self.mouth_psnr_db >= MOUTH_PSNR_DB:
            wrong.append(
                f"PSNR of the mouth at least {MOUTH_PSNR_DB:g} dB, got {self.mouth_psnr_db:.2f}"
            )
        if not self.correlation >= CORRELATION:
            wrong.append(
                f"a correlation of its openings of at least {CORRELATION:g}, got {self.correlation:.3f}"
            )
        if self.shift != SHIFT:
            wrong.append(f"the mouth in step, got a shift of {self.shift:+d} frames")
        if not self.silence_closed >= least:
            wrong.append(
                f"a closed mouth in at least {least:.1%} of the frames for silence, got"
                f" {self.silence_closed:.1%}"
            )
        if not self.seam <= SEAM:
            wrong.append(
                f"a step across the patch's edge of at most {SEAM:g} grey levels more than the teacher's, got"
                f" {self.seam:.2f}"
            )
        return f"expected {'; '.join(wrong)}: {_ADVICE}" if wrong else None


class PatchSource(Protocol):
    """A generator that is compared."""

    def patches(self, frames: Sequence[int], windows: Floats) -> Iterator[Image]:
        """Yield the patch of each of these frames with its audio window; see `ServedGenerator`."""


def compare(student: PatchSource, lessons: Lessons, mouth: TaughtMouth, paste: Paster) -> Figures:
    """Return the figures of a student, on the held-out rows of the lessons."""
    plan, truths = lessons.plan, lessons.truths
    came, true, near, alike, whole, seams = [], [], [], [], [], []
    for row, patch in _answers(student, lessons, plan.held_out):
        frame, truth, rest = int(plan.frames[row]), truths[row], truths[plan.rests[row]]
        came.append(mouth.opening(patch, rest))
        true.append(mouth.opening(truth, rest))
        whole.append(psnr(patch, truth))
        pictures = paste(frame, patch), paste(frame, np.array(truth))
        box = _in_picture(mouth.box, pictures[0])
        near.append(psnr(pictures[0][box], pictures[1][box]))
        alike.append(ssim(pictures[0][box], pictures[1][box]))
        seams.append(edge_step(pictures[0]) - edge_step(pictures[1]))
    quiet = [
        (mouth.opening(p, truths[plan.rests[r]]), mouth.opening(truths[r], truths[plan.rests[r]]))
        for r, p in _answers(student, lessons, plan.quiet)
    ]
    closed = (np.array(quiet) < mouth.closed_below).mean(axis=0)
    correlation, shift = best_shift(np.array(came), np.array(true))
    return Figures(
        mouth_psnr_db=float(np.mean(near)),
        mouth_ssim=float(np.mean(alike)),
        patch_psnr_db=float(np.mean(whole)),
        correlation=correlation,
        shift=shift,
        silence_closed=float(closed[0]),
        teachers_silence_closed=float(closed[1]),
        seam=float(np.mean(seams)),
        frames=len(came),
    )


class Paster:
    """The paste of an avatar's compositor: the face rectangle of a frame with a patch in it."""

    def __init__(self, store: Repository, name: str) -> None:
        folder = str(MODELS / "demo_compositor/1")
        if folder not in sys.path:
            sys.path.append(folder)  # as Triton does for the model
        from lipsync_frames import AvatarFrames, Paste

        parameters = store.config(name + COMPOSITOR).parameters
        given = {k: {"string_value": v.string_value} for k, v in parameters.items()}
        self._frames: Any = AvatarFrames(store.pack(name), 0, Paste.from_parameters(given))

    def __call__(self, frame: int, patch: Image) -> Image:
        """Return the rectangle, uint8 (h, w, 3) BGR."""
        x1, y1, x2, y2 = self._frames.rects[frame]
        crop = self._frames.bgr(frame)[y1:y2, x1:x2]
        face: Image = self._frames.patched(frame, crop, patch)
        return face


def edge_step(picture: Image) -> float:
    """Return the mean difference between the pixels to both sides of the patch's edge, grey levels.

    The patch ends 4 pixels of 328 inside the rectangle, uint8 (h, w, 3); the corners are left out.
    """
    steps = []
    for turn in range(4):
        side = np.rot90(picture, turn).astype(np.float64)
        edge, corner = round(BORDER / CROP * len(side)), side.shape[1] // 8
        inner, outer = side[edge + 1], side[max(edge - 2, 0)]
        steps.append(np.abs(inner - outer)[corner:-corner].mean())
    return float(np.mean(steps))


def _answers(student: PatchSource, lessons: Lessons, part: slice) -> Any:
    """Yield the rows of a part with the student's patches."""
    numbers = rows(part)
    frames = lessons.plan.frames[part].tolist()
    windows = lessons.windows(numbers).numpy()
    return zip(numbers.tolist(), student.patches(frames, windows), strict=True)


def _in_picture(box: tuple[slice, slice], picture: Image) -> tuple[slice, slice]:
    """Return rows and columns of a rectangle's picture that show a box of the patch."""
    height, width = picture.shape[:2]
    y, x = (
        slice(round((s.start + BORDER) * size / CROP), round((s.stop + BORDER) * size / CROP))
        for s, size in zip(box, (height, width), strict=True)
    )
    return y, x
