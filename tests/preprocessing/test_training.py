"""Training a small generator: losses fall, the pairs are SyncTalk_2D's, an interrupted training goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from lipsync_preprocessing.cli import main
from lipsync_preprocessing.dataset import read_dataset
from lipsync_preprocessing.errors import TrainingError
from lipsync_preprocessing.networks.checkpoint import load_generator_state
from lipsync_preprocessing.networks.torch_networks import TorchGenerator
from lipsync_preprocessing.recording.audio import SAMPLE_RATE
from lipsync_preprocessing.training import train
from lipsync_preprocessing.training.evaluation import (
    Tools,
    evaluate,
    sync_score,
    true_agreement,
)
from lipsync_preprocessing.training.loop import GeneratorTraining, LoopSettings
from lipsync_preprocessing.training.losses import PerceptualLoss, gradient_l1, weighted_l1
from lipsync_preprocessing.training.material import Material, read_measured, write_faces
from lipsync_preprocessing.training.mouth import MouthMeasure
from lipsync_preprocessing.training.pairs import crop_places
from lipsync_preprocessing.training.precision import choose_precision
from lipsync_preprocessing.training.speech import Speech
from lipsync_preprocessing.training.sync import SyncNetwork, train_sync
from lipsync_preprocessing.training.train import TrainingOptions, train_generator
from support import talking
from support.toy_avatars import ROOT

ENCODER = ROOT / "examples/demo/weights/audio_encoder.onnx"
OPTIONS = TrainingOptions(
    width=1 / 16,
    loop=LoopSettings(crops=6, steps=6, crop_batch=2, batch=1, decay=0.5),
    audio_steps=4,
    sync_steps=4,
    every=6,
    patience=0,
    device="cpu",
    precision="fp32",
    threads=1,
)
FRAMES = 150


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Torch's threads wait for each other in loops, which a busy machine makes long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return talking.write_dataset(tmp_path_factory.mktemp("talking") / "dataset", FRAMES)


@pytest.fixture(scope="module")
def material(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Material:
    path = tmp_path_factory.mktemp("faces") / "faces.npy"
    write_faces(read_dataset(dataset), path, lambda _done, _total: None)
    speech = Speech(talking.audio(FRAMES), ENCODER)
    return Material(path, speech, read_measured(dataset, FRAMES))


def test_pairs_are_those_of_the_contract(material: Material) -> None:
    batch = material.pairs(np.array([20, 40]), np.array([50, 60]))
    other, masked = batch.inputs[:, :3], batch.inputs[:, 3:]
    face = torch.from_numpy(np.array(material.faces[20])).permute(2, 0, 1) / 255
    assert torch.equal(
        other[0], torch.from_numpy(np.array(material.faces[50])).permute(2, 0, 1) / 255
    )
    assert masked[0, :, 5:310, 5:315].abs().max() == 0
    for rim in (np.s_[:, :5], np.s_[:, 310:], np.s_[:, :, :5], np.s_[:, :, 315:]):
        assert torch.equal(masked[0][rim], face[rim])
    # The service truncates: the target's half level makes that a rounding.
    assert torch.equal((batch.targets[0] * 255).int(), (face * 255).round().int())
    assert batch.audio.shape == (2, 32, 16, 16)
    assert material.held_out[-1] == min(FRAMES, len(material.speech)) - 1
    assert material.held_out[0] - material.train[-1] > 16
    crop = material.batch(np.random.default_rng(1), 3, crop=True)
    assert crop.inputs.shape == (3, 6, 192, 192)


@pytest.mark.parametrize(
    ("mouth", "tops", "lefts"),
    [
        ((0.5, 0.4), [0, 32], [32, 64, 96]),  # the training code's square
        ((0.5, 0.62), [96, 128], [32, 64, 96]),  # the demo avatar's
        ((0.1, 0.95), [96, 128], [0, 32, 64]),
    ],
)
def test_crops_lie_about_the_mouth(
    mouth: tuple[float, float], tops: list[int], lefts: list[int]
) -> None:
    assert crop_places(mouth) == (tops, lefts)


def test_audio_windows_are_the_services(material: Material) -> None:
    """Frames at the clip's ends have zero vectors, and silence is the same everywhere in between."""
    windows = material.speech.windows(np.array([0, 75])).reshape(2, 16, 512)
    assert windows[0, :8].abs().max() == 0
    assert windows[0, 8:].abs().max() > 0
    assert torch.equal(windows[0, 8], windows[0, 9])  # the first embedding stands twice
    silent = Speech(np.zeros(2 * SAMPLE_RATE, np.float32), ENCODER)
    two = silent.windows(np.array([20, 30]))
    assert torch.allclose(two[0], two[1], atol=1e-5)


@pytest.mark.slow
def test_the_loss_falls(material: Material) -> None:
    settings = LoopSettings(crops=24, steps=1, crop_batch=2, batch=1, rate=1e-2, decay=0.1)
    torch.manual_seed(0)

    def loss(output: torch.Tensor, batch: Any) -> dict[str, torch.Tensor]:
        return {"pixels": weighted_l1(output, batch.targets, batch.weights)}

    precision = choose_precision("cpu", "fp32")
    training = GeneratorTraining(TorchGenerator(1 / 16), material, settings, loss, precision)
    losses = []
    for terms in training.run():
        losses.append(terms["pixels"])
        if training.step == settings.crops:
            break
    print(f"loss: {np.round(losses, 3)}")
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])


@pytest.mark.slow
def test_the_sync_network_tells_moments_apart(material: Material) -> None:
    torch.manual_seed(3)
    network = SyncNetwork(material.measured.mouth)
    seen: list[int] = []
    train_sync(
        network, material.matching, 60, torch.device("cpu"), lambda done, _: seen.append(done), 24
    )
    assert seen == list(range(1, 61))
    pairs = material.pairs(material.held_out, material.held_out)
    right = network.agreement(pairs.targets, pairs.audio).mean()
    wrong = network.agreement(pairs.targets, pairs.audio.roll(12, 0)).mean()
    both = true_agreement(material, network, torch.device("cpu"))
    assert both[0] == pytest.approx(float(right), abs=1e-4)
    assert both[1] < right - 0.05
    print(f"agreement: {right:.2f} in step, {wrong:.2f} half a second off")
    assert right > wrong + 0.05


def test_the_mouths_measure(material: Material) -> None:
    """The opening that is learned from the training part is right on the held-out part."""
    measure = MouthMeasure(material)
    came = [measure.opening(np.array(material.faces[k])) for k in material.held_out]
    assert material.measured.opening is not None
    true = material.measured.opening[material.held_out]
    assert np.corrcoef(came, true)[0, 1] > 0.9
    closed = np.array(came) < measure.closed_below
    assert material.measured.closed is not None
    assert (closed == material.measured.closed[material.held_out]).mean() > 0.8


class _Perfect(torch.nn.Module):
    """A generator that knows the faces: what the figures of a perfect one are."""

    def __init__(self, material: Material, late: int) -> None:
        super().__init__()
        self.material, self.late, self.at = material, late, 0

    def audio_model(self, audio: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(audio), 1, 10, 10)

    def from_audio_features(self, inputs: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        held = self.material.held_out
        places = [held[(self.at + k - self.late) % len(held)] for k in range(len(inputs))]
        self.at = (self.at + len(inputs)) % len(held)
        return self.material.pairs(np.array(places), np.array(places)).targets


@pytest.mark.parametrize("late", [0, 3])
def test_the_figures_of_a_perfect_and_of_a_late_generator(material: Material, late: int) -> None:
    silence = torch.zeros(1, 32, 16, 16)
    tools = Tools(MouthMeasure(material), None, silence, torch.device("cpu"))
    network: Any = _Perfect(material, late)
    scores = evaluate(network, material, tools)
    assert scores.shift == late
    if late == 0:
        assert scores.psnr_db > 60
        assert scores.ssim > 0.99
        assert scores.correlation > 0.99
        assert sync_score(network, material, material.held_out, tools) == pytest.approx(0, abs=1e-3)


def test_gradient_loss_sees_blur_and_not_brightness() -> None:
    image = torch.from_numpy(np.random.default_rng(1).random((1, 3, 32, 32)).astype(np.float32))
    ones = torch.ones(1, 1, 32, 32)
    assert gradient_l1(image + 0.2, image, ones) < 1e-6
    blurred = torch.nn.functional.avg_pool2d(image, 3, 1, 1)
    assert gradient_l1(blurred, image, ones) > 0.1
    assert weighted_l1(image + 0.2, image, ones).item() == pytest.approx(0.2, abs=1e-6)


def test_perceptual_loss_reads_torchvisions_file(tmp_path: Path) -> None:
    torch.manual_seed(2)
    layers = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256)}
    layers[14] = 256, 256
    state = {}
    for number, (cout, cin) in layers.items():
        state[f"features.{number}.weight"] = 0.1 * torch.randn(cout, cin, 3, 3)
        state[f"features.{number}.bias"] = torch.zeros(cout)
    torch.save({**state, "classifier.0.weight": torch.zeros(1)}, tmp_path / "vgg19.pth")
    loss = PerceptualLoss(tmp_path / "vgg19.pth")
    face = torch.rand(1, 3, 32, 32)
    assert loss(face, face).item() == 0
    assert loss(face, 1 - face).item() > 0.001


@pytest.mark.slow
@pytest.mark.usefixtures("short_training")
def test_an_interrupted_training_goes_on_bit_for_bit(dataset: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    whole, parts = tmp_path / "whole.pth", tmp_path / "parts.pth"
    train_generator(dataset, ENCODER, whole, OPTIONS, say=lines.append)
    assert lines[0].startswith("warning: the video's mouths fit their own audio by "), "four steps"

    def interrupt(what: str, done: int, _total: int) -> None:
        if what == "training" and done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_generator(dataset, ENCODER, parts, OPTIONS, report=interrupt)
    assert not parts.exists()
    with pytest.raises(TrainingError, match="--resume goes on with it"):
        train_generator(dataset, ENCODER, parts, OPTIONS)
    other = replace(OPTIONS, width=1 / 8, resume=True)
    with pytest.raises(
        TrainingError, match=r"expected the width of the training.*0\.0625, got 0\.125"
    ):
        train_generator(dataset, ENCODER, parts, other)
    lines.clear()
    card = train_generator(dataset, ENCODER, parts, replace(OPTIONS, resume=True), say=lines.append)
    assert lines[1] == "going on at step 6 of 12"
    states = [load_generator_state(path) for path in (whole, parts)]
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
    assert json.loads(parts.with_suffix(".card.json").read_text())["steps"] == 12
    assert card.steps == 12
    folder = parts.with_suffix(".training")
    assert sorted(p.name for p in folder.iterdir() if p.is_file()) == [
        "inputs.json",
        "log.csv",
        "samples.png",
    ]
    rows = (folder / "log.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "6", "12"]
    assert rows == (whole.with_suffix(".training") / "log.csv").read_text().splitlines()
    samples = cv2.imread(str(folder / "samples.png"))
    assert samples.shape[0] == 3 * 320


@pytest.mark.slow
@pytest.mark.usefixtures("short_training")
def test_it_ends_early_without_a_better_sync(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.1, 0.2, 0.3, 0.3, 0.25, 0.2, 0.2, 0.2])
    monkeypatch.setattr(train, "sync_score", lambda *_: next(scores))
    course = LoopSettings(crops=1, steps=20, crop_batch=1, batch=1, decay=0.5)
    options = replace(OPTIONS, loop=course, every=2, patience=2, sync_steps=0, audio_steps=0)
    lines: list[str] = []
    card = train_generator(dataset, ENCODER, tmp_path / "a.pth", options, say=lines.append)
    assert any("does not improve" in line for line in lines)
    assert card.ended_early
    assert card.steps == 2 * 5 + 6, "five looks, and then the last 0.3 of the steps"


def test_mistakes_of_the_command(dataset: Path, tmp_path: Path) -> None:
    def command(*arguments: object) -> Any:
        fixed = ["train", str(dataset), "--audio-encoder", str(ENCODER)]
        return CliRunner().invoke(main, [*fixed, *map(str, arguments)])

    assert "ends in .pth" in command("-o", tmp_path / "a.onnx").stderr
    assert "expected full, mobile or a factor" in command("-o", "a.pth", "--width", "large").stderr
    (tmp_path / "a.pth").touch()
    assert "exists already" in command("-o", tmp_path / "a.pth").stderr
    none = command("-o", tmp_path / "b.pth", "--audio", tmp_path / "none.wav")
    assert "expected the speech" in none.stderr
    assert none.exit_code == 1
    if not torch.cuda.is_available():
        assert "finds no NVIDIA GPU" in command("-o", tmp_path / "b.pth", "--device", "cuda").stderr
    assert [p.name for p in tmp_path.iterdir()] == ["a.pth"]
