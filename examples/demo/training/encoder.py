"""Train the audio encoder: from a mel window to the mouth at its middle, laid out for the generator.

    python encoder.py WORK
    python encoder.py WORK --further

Write WORK/audio_encoder.pth and WORK/corpus.npz, which holds the audio and the mouth for the generator's training.
`--further` continues with the encoder alone, on other clips of more varied speakers. The meaning of the embedding
stays the same (layout.py), so the generator need not be trained again.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

import click
import corpus
import numpy as np
import torch
from layout import embedding_of
from numpy.typing import NDArray
from torch import nn

from lipsync_preprocessing.networks.torch_networks import TorchAudioEncoder

Floats = NDArray[np.floating]
WIDTH = 0.5  # of the published encoder: enough for one avatar, at a quarter of the computation
_WINDOW_MIDDLE_S = 7.5 / corpus.FPS / 3.2  # from the first column of a window to its middle


@dataclass(frozen=True)
class Training:
    """The parameters of one training.

    Attributes:
        seeds: seeds of the clips.
        recordings: number of recordings of each clip with speech.
        varied: share of the clips that are played faster or slower, by a factor within `factors`.
        steps: training steps of 256 windows.
        rate: largest learning rate.
    """

    seeds: range
    recordings: int
    varied: float
    factors: tuple[float, float]
    steps: int
    rate: float


FIRST = Training(range(700), 3, 0.5, (0.88, 1.14), 3000, 2e-3)
FURTHER = Training(range(1000, 2800), 2, 0.7, (0.8, 1.25), 5000, 1.5e-3)


def make_examples(seed: int, training: Training) -> tuple[list[Floats], Floats, Floats]:
    """Return the mel windows of each recording, the mouth at each window's middle, and at each frame."""
    rng = np.random.default_rng(seed)
    if seed % 8 == 7:
        clip = corpus.silent(seed)
        recordings = [clip.samples]
    else:
        clip = corpus.spoken(seed)
        if rng.random() < training.varied:
            clip = corpus.faster(clip, rng.uniform(*training.factors))
        recordings = [corpus.as_recorded(clip.samples, rng) for _ in range(training.recordings)]
    windows = [corpus.mel_windows(r).astype(np.float16) for r in recordings]
    starts = np.arange(len(windows[0])) * 80 // 25
    middles = starts / 80 + _WINDOW_MIDDLE_S
    times = corpus.frame_times(len(clip.samples))
    at_windows = np.stack([np.interp(middles, times, c) for c in clip.mouth.T], axis=1)
    return windows, at_windows.astype(np.float32), clip.mouth


@click.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--further", is_flag=True)
def main(work: Path, further: bool) -> None:
    """Make the corpus and train the encoder."""
    work.mkdir(parents=True, exist_ok=True)
    begun, training = time.time(), FURTHER if further else FIRST
    with Pool(2) as pool:
        make = functools.partial(make_examples, training=training)
        examples = pool.map(make, training.seeds, chunksize=8)
    mel = np.concatenate([w for windows, _, _ in examples for w in windows])
    mouth = np.concatenate([m for windows, m, _ in examples for _ in windows])
    if not further:
        np.savez(
            work / "corpus.npz",
            mel=mel,
            mouth=mouth,
            # One entry per recording: the number of its windows, and its clip.
            windows=np.array([len(w) for windows, _, _ in examples for w in windows]),
            clip=np.array([n for n, (windows, _, _) in enumerate(examples) for _ in windows]),
            frames=np.concatenate([f for _, _, f in examples]),
            frame_counts=np.array([len(f) for _, _, f in examples]),
        )
    print(
        f"{len(mel)} windows of {len(training.seeds)} clips after {time.time() - begun:.0f} s",
        flush=True,
    )

    torch.manual_seed(int(further))
    network, checkpoint = TorchAudioEncoder(WIDTH), work / "audio_encoder.pth"
    if further:
        network.load_state_dict(torch.load(checkpoint, weights_only=True))
    train(network, torch.from_numpy(mel), torch.from_numpy(mouth), training)
    # The names in the state are those of the published checkpoint.
    torch.save(network.state_dict(), checkpoint)


def train(
    network: TorchAudioEncoder, mel: torch.Tensor, mouth: torch.Tensor, training: Training
) -> None:
    """Train the encoder.

    Args:
        mel: float16 [N, 80, 16].
        mouth: float32 [N, 5], the mouth at each window's middle.
    """
    network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, training.rate, training.steps)
    losses, begun = [], time.time()
    last: list[torch.Tensor] = []
    hook = network.audio_encoder[-1].conv_block.register_forward_hook(
        lambda _layer, _inputs, output: last.append(output)
    )
    for step in range(training.steps):
        pick = torch.randint(len(mel), (256,))
        with torch.autocast("cpu", torch.bfloat16):
            network(mel[pick].float()[:, None])
        # Learn from the values that the last ReLU cuts off, too: a block that is 0 in all silence would stay so.
        predicted = nn.functional.leaky_relu(last.pop().float().flatten(1), 0.1)
        loss = nn.functional.smooth_l1_loss(predicted, embedding_of(mouth[pick]), beta=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        if step % 100 == 99:
            progress = f"encoder step {step + 1} of {training.steps}: {np.mean(losses[-100:]):.5f}"
            print(f"{progress}, {time.time() - begun:.0f} s", flush=True)
    hook.remove()


if __name__ == "__main__":
    main()
