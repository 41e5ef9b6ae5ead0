"""Trains the audio encoder: mel windows in, the mouth at the window's middle out, laid out for the generator.

    python encoder.py WORK [--clips 700] [--steps 3000]

Writes WORK/material.npz (what was heard and what the mouth does) and WORK/audio_encoder.pth.
"""

from __future__ import annotations

import time
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
VERSIONS = 3  # recordings of each clip
_WINDOW_MIDDLE_S = 7.5 / corpus.FPS / 3.2  # of its first column's time


def material(seed: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Mel windows of each recording, the mouth at each window's middle, and at each frame."""
    rng = np.random.default_rng(seed)
    if seed % 8 == 7:
        one = corpus.silent(seed)
        recordings = [one.samples]
    else:
        one = corpus.spoken(seed)
        if rng.random() < 0.5:
            one = corpus.faster(one, rng.uniform(0.88, 1.14))
        recordings = [corpus.as_recorded(one.samples, rng) for _ in range(VERSIONS)]
    windows = [corpus.mel_windows(r).astype(np.float16) for r in recordings]
    starts = np.arange(len(windows[0])) * 80 // 25
    middles = starts / 80 + _WINDOW_MIDDLE_S
    times = corpus.frame_times(len(one.samples))
    at_windows = np.stack([np.interp(middles, times, c) for c in one.mouth.T], axis=1)
    return windows, at_windows.astype(np.float32), one.mouth


@click.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--clips", default=700)
@click.option("--steps", default=3000)
@click.option("--batch", default=256)
def main(work: Path, clips: int, steps: int, batch: int) -> None:
    """Speak the corpus, train the encoder."""
    work.mkdir(parents=True, exist_ok=True)
    begun = time.time()
    with Pool(2) as pool:
        heard = pool.map(material, range(clips), chunksize=8)
    np.savez(
        work / "material.npz",
        mel=np.concatenate([w for windows, _, _ in heard for w in windows]),
        mouth=np.concatenate([m for windows, m, _ in heard for _ in windows]),
        # One entry a recording: its windows, and which clip it is of.
        windows=np.array([len(w) for windows, _, _ in heard for w in windows]),
        clip=np.array([n for n, (windows, _, _) in enumerate(heard) for _ in windows]),
        frames=np.concatenate([f for _, _, f in heard]),
        frame_counts=np.array([len(f) for _, _, f in heard]),
    )
    with np.load(work / "material.npz") as stored:
        mel, mouth = torch.from_numpy(stored["mel"]), torch.from_numpy(stored["mouth"])
    print(f"{len(mel)} windows of {clips} clips after {time.time() - begun:.0f} s", flush=True)

    torch.manual_seed(0)
    network = AudioEncoder(WIDTH).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps)
    losses = []
    for step in range(steps):
        pick = torch.randint(len(mel), (batch,))
        x = mel[pick].float()[:, None]
        with torch.autocast("cpu", torch.bfloat16):
            y = network(x)
        loss = nn.functional.smooth_l1_loss(y.float(), embedding_of(mouth[pick]), beta=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        if step % 50 == 49:
            print(
                f"step {step + 1}: {np.mean(losses[-100:]):.5f}, {time.time() - begun:.0f} s",
                flush=True,
            )
    # The names are those of the published checkpoint.
    torch.save(network.state_dict(), work / "audio_encoder.pth")


if __name__ == "__main__":
    main()
