"""Measuring a generator on frames that its training never met."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lipsync_preprocessing.contract import FRAME_RATE
from lipsync_preprocessing.dataset.types import Image
from lipsync_preprocessing.networks.torch_networks import TorchGenerator
from lipsync_preprocessing.training.material import Frames, Material
from lipsync_preprocessing.training.mouth import MouthMeasure
from lipsync_preprocessing.training.pairs import Batch, infer
from lipsync_preprocessing.training.sync import SyncNetwork

_AT_ONCE = 8
_LARGEST_SHIFT = 4  # frames
_SILENT_FRAMES = 3 * FRAME_RATE
# Two minutes of a drawing had 0.63, and with audio that drifted by 0.8 s 0.2 at most.
_LEAST_AGREEMENT = 0.3


@dataclass(frozen=True)
class Scores:
    """Figures of a generator on held-out frames.

    Attributes:
        psnr_db, ssim: of the mouth's surroundings, the mean of the frames.
        sync: mean agreement of mouth and audio by the sync network, -1…1; None without one.
        true_sync: the same of the video's own frames.
        correlation: of the mouth's opening with the video's.
        shift: frames by which the opening must be moved to fit best; 0 is in step.
        silence_closed: part of the frames for silence whose mouth is closed.
        frames: number of held-out frames.
    """

    psnr_db: float
    ssim: float
    sync: float | None
    true_sync: float | None
    correlation: float
    shift: int
    silence_closed: float
    frames: int

    def lines(self) -> list[str]:
        """Return the figures as text."""
        values = asdict(self)
        rows = [
            f"mouth, held-out frames: PSNR {self.psnr_db:.2f} dB, SSIM {self.ssim:.3f}",
            f"opening of the mouth: correlation {self.correlation:.3f}, shift {self.shift:+d} frames",
            f"silence: closed in {self.silence_closed:.1%} of the frames",
        ]
        if values["sync"] is not None:
            rows.append(
                f"agreement with the audio: {self.sync:.3f}, of the video itself {self.true_sync:.3f}"
            )
        return rows


@dataclass(frozen=True)
class Tools:
    """The instruments that the figures are taken with."""

    measure: MouthMeasure
    sync: SyncNetwork | None
    silence: Tensor
    device: torch.device


def render(
    network: TorchGenerator,
    material: Material,
    frames: Frames,
    tools: Tools,
    *,
    silent: bool = False,
) -> Iterator[tuple[Batch, Tensor]]:
    """Yield batches of held-out frames, and the network's output for them [B,3,320,320]."""
    others = material.other_faces(frames)
    for k in range(0, len(frames), _AT_ONCE):
        own = frames[k : k + _AT_ONCE]
        batch = material.pairs(own, others[k : k + _AT_ONCE])
        if silent:
            audio = tools.silence.expand(len(own), -1, -1, -1)
            batch = Batch(batch.inputs, audio, batch.targets, batch.weights, batch.at)
        batch = batch.to(tools.device)
        with torch.no_grad():
            yield batch, infer(network, batch).float()


def sync_score(network: TorchGenerator, material: Material, frames: Frames, tools: Tools) -> float:
    """Return the mean agreement of the network's mouths with the audio; the less, the worse."""
    if tools.sync is None:
        # Without a sync network, the error about the mouth has to do.
        errors = [
            float(((output - b.targets).abs() * (b.weights - 1)).mean())
            for b, output in render(network, material, frames, tools)
        ]
        return -float(np.mean(errors))
    scores = [
        tools.sync.agreement(output, batch.audio).cpu()
        for batch, output in render(network, material, frames, tools)
    ]
    return float(torch.cat(scores).mean())


def true_agreement(
    material: Material, sync: SyncNetwork, device: torch.device
) -> tuple[float, float]:
    """Return how well the video's held-out mouths fit their audio, and that of other moments; the means."""
    frames = material.held_out
    own, others = [], []
    for k in range(0, len(frames), _AT_ONCE):
        part = frames[k : k + _AT_ONCE]
        batch = material.pairs(part, part).to(device)
        elsewhere = material.speech.windows(np.roll(frames, len(frames) // 2)[k : k + _AT_ONCE])
        with torch.no_grad():
            own += sync.agreement(batch.targets, batch.audio).tolist()
            others += sync.agreement(batch.targets, elsewhere.to(device)).tolist()
    return float(np.mean(own)), float(np.mean(others))


def agreement_warning(material: Material, sync: SyncNetwork, device: torch.device) -> str | None:
    """Return a warning of a dataset in which the audio does not tell the mouth, if it is one."""
    own, others = true_agreement(material, sync, device)
    if own - others >= _LEAST_AGREEMENT:
        return None
    return (
        f"warning: the video's mouths fit their own audio by {own:.2f}, and that of other moments by"
        f" {others:.2f}; where they differ by less than {_LEAST_AGREEMENT}, a mouth seldom follows the audio:"
        " see that audio and video are in step from the beginning to the end, or record more"
    )


def evaluate(network: TorchGenerator, material: Material, tools: Tools) -> Scores:
    """Return the figures of a network in evaluation mode, on all held-out frames."""
    box = tools.measure.box
    came, true, near, alike, sync, true_sync = [], [], [], [], [], []
    for batch, output in render(network, material, material.held_out, tools):
        for face, target in zip(to_images(output), to_images(batch.targets), strict=True):
            came.append(tools.measure.opening(face))
            true.append(tools.measure.opening(target))
            near.append(psnr(face[box], target[box]))
            alike.append(ssim(face[box], target[box]))
        if tools.sync is not None:
            sync += tools.sync.agreement(output, batch.audio).tolist()
            true_sync += tools.sync.agreement(batch.targets, batch.audio).tolist()
    silent = [
        tools.measure.opening(face)
        for _, output in render(
            network, material, material.held_out[:_SILENT_FRAMES], tools, silent=True
        )
        for face in to_images(output)
    ]
    correlation, shift = best_shift(np.array(came), np.array(true))
    return Scores(
        float(np.mean(near)),
        float(np.mean(alike)),
        float(np.mean(sync)) if sync else None,
        float(np.mean(true_sync)) if true_sync else None,
        correlation,
        shift,
        float(np.mean(np.array(silent) < tools.measure.closed_below)),
        len(came),
    )


def to_images(faces: Tensor) -> list[Image]:
    """Return faces [B,3,h,w] in 0…1 as uint8 (h, w, 3), truncated as the service does."""
    values = (faces.cpu() * 255).clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()
    return list(values)


def best_shift(came: npt.NDArray[np.float64], true: npt.NDArray[np.float64]) -> tuple[float, int]:
    """Return the correlation in step, and the shift at which it is greatest."""
    inner = slice(_LARGEST_SHIFT, len(true) - _LARGEST_SHIFT)
    shifts = sorted(range(-_LARGEST_SHIFT, _LARGEST_SHIFT + 1), key=abs)
    if came[inner].std() < 1e-9 or true[inner].std() < 1e-9:
        return 0.0, 0
    match = [float(np.corrcoef(np.roll(came, -s)[inner], true[inner])[0, 1]) for s in shifts]
    return match[0], shifts[int(np.argmax(match))]


def psnr(a: Image, b: Image) -> float:
    """Return the peak signal-to-noise ratio of two images, at most 78 dB."""
    error = float(((a.astype(np.float64) - b) ** 2).mean())
    return float(10 * np.log10(255**2 / max(error, 1e-3)))


def ssim(a: Image, b: Image) -> float:
    """Return the structural similarity of two images in grey (Wang et al., 2004; Gaussian of 1.5 pixels)."""
    x, y = (
        cv2.cvtColor(np.ascontiguousarray(i), cv2.COLOR_BGR2GRAY).astype(np.float64) for i in (a, b)
    )

    def mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(values, (11, 11), 1.5))

    mx, my = mean(x), mean(y)
    vx, vy, covariance = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mx * my + c1) * (2 * covariance + c2)
    return float((top / ((mx * mx + my * my + c1) * (vx + vy + c2))).mean())
