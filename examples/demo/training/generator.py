"""Train the generator: first its audio branch alone on the mouth's parameters, then the whole on faces.

    python generator.py WORK [--crops 3500] [--steps 1300]

Read the files of encoder.py and faces.py; write WORK/generator.pth and, during the training, WORK/progress.png: rows
of input faces, output faces and the faces drawn for that moment.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
from encoder import WIDTH as ENCODER_WIDTH
from faces import FACE, FRAMES
from torch import Tensor, nn
from torch_networks import TorchAudioEncoder, TorchGenerator

from lipsync_preprocessing.contract import MASK_COLUMNS, MASK_ROWS

WIDTH = 0.5  # the "mobile" variant
CONTEXT = 8  # embeddings before a frame's own, and after
# Pixels from the patch's edge over which it blends into the avatar's own frame, so that there is no seam.
RIM = 14
# The first and larger part of the steps uses only the surroundings of the mouth: a third of the computation.
CROP = 192  # pixels, a multiple of the network's 32
CROP_TOPS, CROP_LEFTS = (96, 128), (32, 64, 96)


@dataclass(frozen=True)
class Batch:
    """A batch of training pairs.

    Attributes:
        inputs: [B,6,h,w].
        audio: [B,32,16,16].
        targets: [B,3,h,w].
        weights: [B,1,h,w].
        at: rows and columns of the crop in the face.
    """

    inputs: Tensor
    audio: Tensor
    targets: Tensor
    weights: Tensor
    at: tuple[slice, slice]


class TrainingAudio:
    """The corpus's embeddings, and the audio window of any frame of any recording."""

    def __init__(self, work: Path) -> None:
        with np.load(work / "corpus.npz") as stored:
            mel, counts, clips = stored["mel"], stored["windows"], stored["clip"]
            self.frames = torch.from_numpy(stored["frames"])
            frame_counts = stored["frame_counts"]
        network = TorchAudioEncoder(ENCODER_WIDTH).to(memory_format=torch.channels_last)
        network.load_state_dict(torch.load(work / "audio_encoder.pth", weights_only=True))
        network.eval()
        parts = []
        with torch.no_grad():
            for part in torch.from_numpy(mel).split(256):
                with torch.autocast("cpu", torch.bfloat16):
                    parts.append(network(part.float()[:, None]).half())
        outside = torch.zeros(1, 512, dtype=torch.half)  # the last row: outside the clip
        self.embeddings = torch.cat([*parts, outside])
        self.starts = np.concatenate([[0], counts.cumsum()])
        self.frame_starts = np.concatenate([[0], frame_counts.cumsum()])
        self.clip_of = clips
        self.recordings = [np.flatnonzero(clips == c) for c in range(clips.max() + 1)]

    def window(self, recording: int, frame: int) -> Tensor:
        """Return a frame's audio window [32, 16, 16]: list entries frame - 8 ... frame + 7, zero outside."""
        begin, end = self.starts[recording], self.starts[recording + 1]
        entries = np.arange(frame - CONTEXT, frame + CONTEXT)
        rows = begin + np.clip(entries - 1, 0, end - begin - 1)
        rows[(entries < 0) | (entries > end - begin + 1)] = len(self.embeddings) - 1
        return self.embeddings[torch.from_numpy(rows)].reshape(32, 16, 16).float()

    def mouth(self, recording: int, frame: int) -> Tensor:
        """Return the mouth's parameters [5] at a frame."""
        return self.frames[self.frame_starts[self.clip_of[recording]] + frame]


def train_audio_branch(
    network: TorchGenerator, audio: TrainingAudio, steps: int, batch: int = 64
) -> None:
    """Teach each of the 10x10 places of the branch's output to predict the mouth."""
    branch = network.audio_model
    channels = 2 * round(256 * WIDTH)
    head = nn.Conv2d(channels, 5, 1)
    parameters = [*branch.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, 2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, steps)
    rng = np.random.default_rng(2)
    losses, begun = [], time.time()
    for step in range(steps):
        recordings = rng.integers(0, len(audio.clip_of), batch)
        lengths = audio.starts[recordings + 1] - audio.starts[recordings] + 2
        frames = (rng.random(batch) * lengths).astype(int)
        moments = list(zip(recordings, frames, strict=True))
        blocks = torch.stack([audio.window(*m) for m in moments])
        truth = torch.stack([audio.mouth(*m) for m in moments])[:, :, None, None]
        with torch.autocast("cpu", torch.bfloat16):
            predicted = head(branch(blocks)).float()
        loss = nn.functional.smooth_l1_loss(predicted, truth.expand_as(predicted), beta=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        if step % 200 == 199:
            print(
                f"audio step {step + 1}: {np.mean(losses[-200:]):.5f}, {time.time() - begun:.0f} s",
                flush=True,
            )


class TrainingFaces:
    """Training pairs as in SyncTalk_2D: a face with the mouth of another moment, its mask, and the target face."""

    def __init__(self, work: Path, audio: TrainingAudio) -> None:
        self.faces = np.load(work / "faces.npy", mmap_mode="r")
        self.moments = np.load(work / "moments.npy")
        self.mouths = len(self.faces) // FRAMES
        self.audio = audio
        distance = np.minimum(np.arange(FACE), np.arange(FACE)[::-1])
        ramp = np.minimum(distance[:, None], distance[None]).clip(0, RIM) / RIM
        self.inner = torch.from_numpy(ramp.astype(np.float32))

    def batch(self, rng: np.random.Generator, size: int, crop: bool = False) -> Batch:
        """Return `size` pairs: whole faces, or the same random crop of each."""
        at = slice(0, FACE), slice(0, FACE)
        if crop:
            top, left = rng.choice(CROP_TOPS), rng.choice(CROP_LEFTS)
            at = slice(top, top + CROP), slice(left, left + CROP)

        def face(n: int) -> Tensor:
            return torch.from_numpy(self.faces[n][at].astype(np.float32)).permute(2, 0, 1)

        inner = self.inner[at]
        sources, targets, closed, blocks = [], [], [], []
        for n in rng.integers(0, len(self.faces), size):
            own = n // self.mouths * self.mouths
            other = own if rng.random() < 0.6 else own + rng.integers(self.mouths)
            closed.append(face(own))
            sources.append(face(other))
            clip, frame = self.moments[n]
            targets.append(closed[-1] + inner * (face(n) - closed[-1]))
            blocks.append(self.audio.window(rng.choice(self.audio.recordings[clip]), frame))
        source, target, rest = torch.stack(sources), torch.stack(targets), torch.stack(closed)
        mask = torch.ones(FACE, FACE)
        mask[MASK_ROWS, MASK_COLUMNS] = 0.0
        moved = torch.maximum((target - rest).abs(), (source - target).abs()).mean(1, keepdim=True)
        weights = 1.0 + 5.0 * nn.functional.max_pool2d((moved > 4.0).float(), 9, 1, 4)
        inputs = torch.cat([source, source * mask[at]], 1) / 255.0
        # The service truncates to grey levels; half a level more turns that into rounding.
        return Batch(inputs, torch.stack(blocks), (target + 0.5) / 255.0, weights, at)


def infer(network: TorchGenerator, batch: Batch) -> Tensor:
    """Return the network's output for a batch of whole faces or crops."""
    rows, columns = (slice(x.start // 32, x.stop // 32) for x in batch.at)
    features = network.audio_model(batch.audio)[:, :, rows, columns]
    inputs = batch.inputs.contiguous(memory_format=torch.channels_last)
    return network.from_audio_features(inputs, features)


def train_faces(
    network: TorchGenerator, audio: TrainingAudio, crops: int, steps: int, work: Path
) -> nn.Module:
    """Train the whole network: `crops` steps on crops, then `steps` on whole faces.

    Returns:
        the network with the running mean of its weights.
    """
    faces = TrainingFaces(work, audio)
    network = network.to(memory_format=torch.channels_last)
    average: Any = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995)
    )
    audio_branch = {id(p) for p in network.audio_model.parameters()}
    groups = [
        {"params": [p for p in network.parameters() if id(p) not in audio_branch]},
        {"params": list(network.audio_model.parameters())},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=1e-4)
    total = crops + steps
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, [3e-3, 3e-4], total, pct_start=0.1)
    rng, losses, begun = np.random.default_rng(3), [], time.time()
    settle = crops + int(0.7 * steps)  # from this step on the batch norms are fixed, as in use

    def load(step: int) -> Batch:
        return faces.batch(rng, 8, crop=True) if step < crops else faces.batch(rng, 4)

    with ThreadPoolExecutor(1) as loader:
        next_batch = loader.submit(load, 0)
        for step in range(total):
            batch = next_batch.result()
            next_batch = loader.submit(load, step + 1)
            if step == settle:
                network.load_state_dict(average.module.state_dict())
                recount_norms(network, faces)
                average.module.load_state_dict(network.state_dict())
                network.eval()
            with torch.autocast("cpu", torch.bfloat16):
                output = infer(network, batch)
            error = (output.float() - batch.targets).abs() * batch.weights
            loss = error.sum() / batch.weights.sum() / 3.0
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            average.update_parameters(network)
            losses.append(255.0 * loss.item())
            if step % 100 == 99:
                progress = f"step {step + 1} of {total}: {np.mean(losses[-100:]):.2f} grey levels"
                print(f"{progress}, {time.time() - begun:.0f} s", flush=True)
            if step % 500 == 499:
                if step < settle:
                    average.module.load_state_dict(
                        {**average.module.state_dict(), **_norms(network)}
                    )
                show(average.module, faces, work / "progress.png")
                torch.save(average.module.state_dict(), work / "generator.pth")
    return average.module


def _norms(network: nn.Module) -> dict[str, Tensor]:
    return {k: v for k, v in network.state_dict().items() if "running" in k}


def recount_norms(network: TorchGenerator, faces: TrainingFaces, batches: int = 60) -> None:
    """Compute the batch norms' statistics again for the present weights."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a mean over all batches
    network.train()
    rng = np.random.default_rng(4)
    with torch.no_grad():
        for _ in range(batches):
            infer(network, faces.batch(rng, 4))


def show(network: TorchGenerator, faces: TrainingFaces, path: Path) -> None:
    """Write an image of the network's present output."""
    training = network.training
    network.eval()
    with torch.no_grad():
        batch = faces.batch(np.random.default_rng(9), 4)
        output = infer(network, batch)
    network.train(training)
    columns = [torch.cat(list(x[:, :3]), dim=2) for x in (batch.inputs, output, batch.targets)]
    image = (torch.cat(columns, dim=1) * 255).clamp(0, 255).byte().permute(1, 2, 0).numpy()
    cv2.imwrite(str(path), image)


@click.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--audio-steps", default=2000)
@click.option("--crops", default=3500)
@click.option("--steps", default=1300)
def main(work: Path, audio_steps: int, crops: int, steps: int) -> None:
    """Train the generator and save it."""
    torch.manual_seed(0)
    audio, network = TrainingAudio(work), TorchGenerator(WIDTH)
    train_audio_branch(network, audio, audio_steps)
    trained = train_faces(network, audio, crops, steps, work)
    torch.save(trained.state_dict(), work / "generator.pth")


if __name__ == "__main__":
    main()
