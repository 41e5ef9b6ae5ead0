"""Train the generator: first its audio branch alone on the mouth's parameters, then the whole on faces.

    python generator.py WORK [--crops 3500] [--steps 1300]

Read the files of encoder.py and faces.py; write WORK/generator.pth and, during the training, WORK/progress.png: rows
of input faces, output faces and the faces drawn for that moment. The training itself is that of `lipsync-avatar train`;
the corpus, the drawn faces and what is known of their mouths are the demo's own.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import numpy as np
import torch
from encoder import WIDTH as ENCODER_WIDTH
from faces import FACE, FRAMES
from torch import Tensor, nn

from lipsync_preprocessing.networks.layers import WHOLE
from lipsync_preprocessing.networks.torch_networks import TorchAudioEncoder, TorchGenerator
from lipsync_preprocessing.training.folder import save_samples
from lipsync_preprocessing.training.loop import GeneratorTraining, LoopSettings
from lipsync_preprocessing.training.losses import weighted_l1
from lipsync_preprocessing.training.pairs import (
    Batch,
    crop_places,
    infer,
    network_input,
    random_place,
    to_pixels,
    to_target,
)
from lipsync_preprocessing.training.precision import Precision
from lipsync_preprocessing.training.warm_up import train_audio_branch

WIDTH = 0.5  # the "mobile" variant
PRECISION = Precision(torch.device("cpu"), "bf16")
CONTEXT = 8  # embeddings before a frame's own, and after
# Pixels from the patch's edge over which it blends into the avatar's own frame, so that there is no seam.
RIM = 14
CROP_PLACES = crop_places((0.5, 0.62))  # the drawn mouth's place in the face


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
        at = random_place(rng, CROP_PLACES) if crop else WHOLE
        inner = self.inner[at]
        sources, targets, closed, blocks = [], [], [], []
        for n in rng.integers(0, len(self.faces), size):
            own = n // self.mouths * self.mouths
            other = own if rng.random() < 0.6 else own + rng.integers(self.mouths)
            closed.append(to_pixels(self.faces[own], at))
            sources.append(to_pixels(self.faces[other], at))
            clip, frame = self.moments[n]
            targets.append(closed[-1] + inner * (to_pixels(self.faces[n], at) - closed[-1]))
            blocks.append(self.audio.window(rng.choice(self.audio.recordings[clip]), frame))
        source, target, rest = torch.stack(sources), torch.stack(targets), torch.stack(closed)
        moved = torch.maximum((target - rest).abs(), (source - target).abs()).mean(1, keepdim=True)
        weights = 1.0 + 5.0 * nn.functional.max_pool2d((moved > 4.0).float(), 9, 1, 4)
        # The mouth of both inputs is that of another moment: the mask hides the rest of it.
        inputs = network_input(source, source, at)
        return Batch(inputs, torch.stack(blocks), to_target(target), weights, at)


def train_faces(
    network: TorchGenerator, audio: TrainingAudio, crops: int, steps: int, work: Path
) -> TorchGenerator:
    """Train the whole network: `crops` steps on crops, then `steps` on whole faces.

    Returns:
        the network with the running mean of its weights.
    """
    faces = TrainingFaces(work, audio)

    def loss(output: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"pixels": weighted_l1(output, batch.targets, batch.weights)}

    settings = LoopSettings(crops, steps)
    training = GeneratorTraining(network, faces, settings, loss, PRECISION)
    losses, begun = [], time.time()
    for terms in training.run():
        losses.append(255.0 * terms["pixels"])
        if training.step % 100 == 0:
            progress = f"step {training.step} of {training.total}: {np.mean(losses[-100:]):.2f}"
            print(f"{progress} grey levels, {time.time() - begun:.0f} s", flush=True)
        if training.step % 500 == 0:
            show(training.result(), faces, work / "progress.png")
            torch.save(training.result().state_dict(), work / "generator.pth")
    return training.result()


def show(network: TorchGenerator, faces: TrainingFaces, path: Path) -> None:
    """Write an image of the network's present output."""
    batch = faces.batch(np.random.default_rng(9), 4)
    with torch.no_grad():
        save_samples(path, batch.inputs, infer(network, batch), batch.targets)


@click.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--audio-steps", default=2000)
@click.option("--crops", default=3500)
@click.option("--steps", default=1300)
def main(work: Path, audio_steps: int, crops: int, steps: int) -> None:
    """Train the generator and save it."""
    torch.manual_seed(0)
    audio, network = TrainingAudio(work), TorchGenerator(WIDTH)

    def moments(rng: np.random.Generator, size: int) -> tuple[Tensor, Tensor]:
        recordings = rng.integers(0, len(audio.clip_of), size)
        lengths = audio.starts[recordings + 1] - audio.starts[recordings] + 2
        frames = (rng.random(size) * lengths).astype(int)
        pairs = list(zip(recordings, frames, strict=True))
        blocks = torch.stack([audio.window(*pair) for pair in pairs])
        return blocks, torch.stack([audio.mouth(*pair) for pair in pairs])

    losses, begun = [], time.time()

    def report(done: int, _total: int, loss: float) -> None:
        losses.append(loss)
        if done % 200 == 0:
            took = time.time() - begun
            print(f"audio step {done}: {np.mean(losses[-200:]):.5f}, {took:.0f} s", flush=True)

    train_audio_branch(network, moments, 5, audio_steps, PRECISION, report)
    trained = train_faces(network, audio, crops, steps, work)
    torch.save(trained.state_dict(), work / "generator.pth")


if __name__ == "__main__":
    main()
