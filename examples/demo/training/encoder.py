"""Trains the audio encoder: mel windows in, the mouth at the window's middle out, laid out for the generator.

    python encoder.py WORK
    python encoder.py WORK --further

Writes WORK/audio_encoder.pth and WORK/material.npz, which tells the generator's training what was heard and what
the mouth does. `--further` goes on with the encoder alone, on other clips of more varied speakers; what its numbers
mean stays the same (layout.py), so the generator need not know.
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
from torch import nn
from torch_networks import AudioEncoder

WIDTH = 0.5  # of the published encoder: enough for one avatar, and a quarter of its work
_WINDOW_MIDDLE_S = 7.5 / corpus.FPS / 3.2  # of its first column's time


@dataclass(frozen=True)
class Round:
    """A run of training.

    Attributes:
        seeds: of its clips.
        recordings: of each clip with speech.
        varied: share of the clips that are played faster or slower, by a factor within `factors`.
        steps: of 256 windows, at a learning rate of up to `rate`.
    """

    seeds: range
    recordings: int
    varied: float
    factors: tuple[float, float]
    steps: int
    rate: float


FIRST = Round(range(700), 3, 0.5, (0.88, 1.14), 3000, 2e-3)
FURTHER = Round(range(1000, 2800), 2, 0.7, (0.8, 1.25), 2600, 1.5e-3)


def material(seed: int, how: Round) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Mel windows of each recording, the mouth at each window's middle, and at each frame."""
    rng = np.random.default_rng(seed)
    if seed % 8 == 7:
        one = corpus.silent(seed)
        recordings = [one.samples]
    else:
        one = corpus.spoken(seed)
        if rng.random() < how.varied:
            one = corpus.faster(one, rng.uniform(*how.factors))
        recordings = [corpus.as_recorded(one.samples, rng) for _ in range(how.recordings)]
    windows = [corpus.mel_windows(r).astype(np.float16) for r in recordings]
    starts = np.arange(len(windows[0])) * 80 // 25
    middles = starts / 80 + _WINDOW_MIDDLE_S
    times = corpus.frame_times(len(one.samples))
    at_windows = np.stack([np.interp(middles, times, c) for c in one.mouth.T], axis=1)
    return windows, at_windows.astype(np.float32), one.mouth


@click.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--further", is_flag=True)
def main(work: Path, further: bool) -> None:
    """Speak the corpus, train the encoder."""
    work.mkdir(parents=True, exist_ok=True)
    begun, how = time.time(), FURTHER if further else FIRST
    with Pool(2) as pool:
        heard = pool.map(functools.partial(material, how=how), how.seeds, chunksize=8)
    mel = np.concatenate([w for windows, _, _ in heard for w in windows])
    mouth = np.concatenate([m for windows, m, _ in heard for _ in windows])
    if not further:
        np.savez(
            work / "material.npz",
            mel=mel,
            mouth=mouth,
            # One entry a recording: its windows, and which clip it is of.
            windows=np.array([len(w) for windows, _, _ in heard for w in windows]),
            clip=np.array([n for n, (windows, _, _) in enumerate(heard) for _ in windows]),
            frames=np.concatenate([f for _, _, f in heard]),
            frame_counts=np.array([len(f) for _, _, f in heard]),
        )
    print(
        f"{len(mel)} windows of {len(how.seeds)} clips after {time.time() - begun:.0f} s",
        flush=True,
    )

    torch.manual_seed(int(further))
    network, checkpoint = AudioEncoder(WIDTH), work / "audio_encoder.pth"
    if further:
        network.load_state_dict(torch.load(checkpoint, weights_only=True))
    train(network, torch.from_numpy(mel), torch.from_numpy(mouth), how)
    # The names are those of the published checkpoint.
    torch.save(network.state_dict(), checkpoint)


def train(network: AudioEncoder, mel: torch.Tensor, mouth: torch.Tensor, how: Round) -> None:
    """Mel windows [N, 80, 16] half, and the mouth of each, [N, 5]."""
    network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, how.rate, how.steps)
    losses, begun = [], time.time()
    for step in range(how.steps):
        pick = torch.randint(len(mel), (256,))
        with torch.autocast("cpu", torch.bfloat16):
            told = network(mel[pick].float()[:, None])
        loss = nn.functional.smooth_l1_loss(told.float(), embedding_of(mouth[pick]), beta=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        if step % 100 == 99:
            so_far = f"encoder step {step + 1} of {how.steps}: {np.mean(losses[-100:]):.5f}"
            print(f"{so_far}, {time.time() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
