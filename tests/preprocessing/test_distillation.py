"""Teaching a small generator by a toy avatar's own: pairs, an interruption, the new version."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import torch
from click.testing import CliRunner

from lipsync_preprocessing.cli import main
from lipsync_preprocessing.distillation import figures, speech
from lipsync_preprocessing.distillation.course import DistilOptions
from lipsync_preprocessing.distillation.distil import CHECKPOINT, distil
from lipsync_preprocessing.distillation.lessons import DONE, make_plan, rows
from lipsync_preprocessing.distillation.teacher import place_of, width_of
from lipsync_preprocessing.errors import TrainingError
from lipsync_preprocessing.networks.checkpoint import load_generator_state
from lipsync_preprocessing.networks.layers import WHOLE
from lipsync_preprocessing.networks.torch_networks import TorchGenerator
from lipsync_preprocessing.repository import Repository
from lipsync_preprocessing.training import loop
from lipsync_preprocessing.training.evaluation import to_images
from lipsync_preprocessing.training.loop import GeneratorTraining, LoopSettings
from lipsync_preprocessing.training.losses import weighted_l1
from lipsync_preprocessing.training.pairs import infer
from lipsync_preprocessing.training.precision import choose_precision
from support import talking
from support.teaching import NAME, OPTIONS, SMALLEST, Taught
from support.toy_datasets import COUNT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def short_trainings() -> Iterator[None]:
    """Count the batch norms and look at the held-out part with few faces: they take longer than the steps.

    And on one thread: torch's threads wait for each other in loops, which a busy machine makes long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_NORM_BATCHES", 2)
        patch.setattr("lipsync_preprocessing.distillation.course._JUDGED", 6)
        yield
    torch.set_num_threads(before)


def teach(repository: Path, spoken: Path, work: Path, options: DistilOptions, **more: Any) -> Any:
    more.setdefault("say", lambda _line: None)
    return distil(repository, NAME, work, [spoken], options, **more)


def test_inputs_and_truths_are_the_services(with_berta: Path, taught: Taught) -> None:
    """The pairs' inputs are what the compiled graph hands to the network, the truths what it serves."""
    lessons, plan = taught.lessons, taught.lessons.plan
    graph = onnx.load(str(with_berta / f"{NAME}_generator/1/model.onnx"))
    seen = onnx.helper.make_tensor_value_info("face_out", onnx.TensorProto.FLOAT, None)
    graph.graph.output.append(seen)
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    chosen = [plan.train.start, plan.held_out.start + 20, plan.quiet.start]
    batch = lessons.pairs(np.array(chosen))
    order = [*range(1, COUNT), *range(COUNT - 2, -1, -1)]  # the contract's order, a whole turn
    for n, row in enumerate(chosen):
        place = order.index(plan.frames[row])
        assert place == place_of(int(plan.frames[row]), COUNT)
        feeds = {"loop_index": np.array([[place]]), "audio": batch.audio[n : n + 1].numpy()}
        patch, face = session.run(["patch", "face_out"], feeds)
        np.testing.assert_array_equal(batch.inputs[n].numpy(), face[0])
        np.testing.assert_array_equal(lessons.truths[row], patch[0])
        np.testing.assert_array_equal(to_images(batch.targets[n : n + 1])[0], patch[0])


def test_what_is_held_out_is_never_taught(taught: Taught) -> None:
    plan, voices = taught.lessons.plan, taught.voices
    unknown = set(plan.frames[plan.held_out])
    taught_rows = [*rows(plan.train), *plan.rests[plan.train]]
    assert unknown
    assert not unknown & set(plan.frames[taught_rows])
    held = {clip for clip, _ in plan.moments[plan.held_out].tolist()}
    heard = {clip for clip, _ in plan.moments[plan.train].tolist()}
    assert not held & heard
    assert len(heard) > 2
    # A fifth of 10.4 s, and the two frames more than the contract has for a clip.
    assert len(voices.held_out) == pytest.approx(52, abs=2)
    for row in [*rows(plan.held_out)[::20], *rows(plan.train)]:
        assert plan.frames[plan.rests[row]] == plan.frames[row]
        assert plan.moments[plan.rests[row]].tolist() == voices.silence.tolist()


def test_pixels_that_the_teacher_changes_weigh_more(taught: Taught) -> None:
    lessons: Any = copy.copy(taught.lessons)
    row = lessons.plan.train.start
    truth = np.array(lessons.faces[lessons.plan.frames[row]])
    truth[100:120, 100:120] ^= 0x80
    lessons.truths = {row: truth}
    weights = lessons.pairs(np.array([row])).weights[0, 0]
    assert weights[96:124, 96:124].unique().tolist() == [4]
    assert weights[:96].unique().tolist() == [1]


@pytest.mark.parametrize(("frames", "known"), [(1, 1), (2, 1), (9, 8), (125, 113), (3000, 1000)])
def test_frames_are_held_out_and_taught_all_over_the_loop(
    taught: Taught, frames: int, known: int
) -> None:
    plan = make_plan(frames, taught.voices, 4000)
    shown, held = (sorted(set(plan.frames[part])) for part in (plan.train, plan.held_out))
    assert len(shown) == pytest.approx(known, rel=0.03)
    assert len(held) == min(50, max(1, frames // 10))
    assert len(set(shown) & set(held)) == (frames == 1)
    for numbers in (shown, held):
        assert max(np.diff([0, *numbers, frames])) <= max(10, frames // 20)


def test_the_loss_falls(taught: Taught) -> None:
    settings = LoopSettings(crops=16, steps=1, crop_batch=2, batch=1, rate=2e-2, decay=0.1)
    torch.manual_seed(0)

    def loss(output: torch.Tensor, batch: Any) -> dict[str, torch.Tensor]:
        return {"pixels": weighted_l1(output, batch.targets, batch.weights)}

    precision = choose_precision("cpu", "fp32")
    network = TorchGenerator(float(SMALLEST))
    training = GeneratorTraining(network, taught.lessons, settings, loss, precision)
    losses = []
    for terms in training.run():
        losses.append(terms["pixels"])
        if training.step == settings.crops:
            break
    print(f"loss: {np.round(losses, 3)}")
    assert np.mean(losses[-4:]) < 0.85 * np.mean(losses[:4])


@dataclass
class Refused:
    """A training to its end, whose student was refused."""

    work: Path
    lines: list[str]
    unchanged: bool


@pytest.fixture(scope="module")
def refused(with_berta: Path, spoken: Path, tmp_path_factory: pytest.TempPathFactory) -> Refused:
    """Return a training without the teacher's weights, as where the teacher is another network."""
    root, lines = tmp_path_factory.mktemp("refused"), list[str]()
    repository = shutil.copytree(with_berta, root / "models")
    before = files(repository)
    refusal = r"student of width 1/16 is refused: expected PSNR"
    with stranger(), pytest.raises(TrainingError, match=refusal):
        teach(repository, spoken, root / "work", OPTIONS, say=lines.append)
    return Refused(root / "work", lines, files(repository) == before)


@contextmanager
def stranger() -> Iterator[None]:
    """Let a student begin with nothing of its teacher's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lipsync_preprocessing.distillation.course.inherit", lambda *_: False)
        yield


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_below_the_floors_nothing_is_written(refused: Refused) -> None:
    assert refused.unchanged
    assert any(line.startswith("against its teacher, 5") for line in refused.lines)


def test_an_interrupted_training_goes_on_bit_for_bit(
    refused: Refused, berta: Path, spoken: Path, tmp_path: Path
) -> None:
    shutil.copytree(refused.work / "lessons", tmp_path / "lessons")
    kept = (tmp_path / "lessons" / DONE).read_text()
    (tmp_path / "lessons" / DONE).write_text("64")  # as if it had been interrupted there
    seen: list[str] = []

    def interrupt(what: str, done: int, _total: int) -> None:
        seen.append(f"{what} {done}")
        if what == "teaching" and done == 7:
            raise KeyboardInterrupt

    with stranger(), pytest.raises(KeyboardInterrupt):
        teach(berta, spoken, tmp_path, OPTIONS, report=interrupt)
    assert "teaching the audio branch 3" in seen
    assert "the teacher's patches 65" in seen
    assert "the teacher's patches 64" not in seen
    assert (tmp_path / "lessons" / DONE).read_text() == kept
    with pytest.raises(TrainingError, match="--resume goes on with it"):
        teach(berta, spoken, tmp_path, OPTIONS)
    more = replace(OPTIONS, pairs=13, resume=True)
    with pytest.raises(TrainingError, match=r"expected the number of pairs .*, 12, got 13"):
        teach(berta, spoken, tmp_path, more)
    lines: list[str] = []
    resumed = replace(OPTIONS, resume=True)
    with pytest.raises(TrainingError, match="is refused"):
        teach(berta, spoken, tmp_path, resumed, say=lines.append)
    assert "going on at step 4 of 8" in lines
    part = f"width-1-16/{CHECKPOINT}"
    states = [load_generator_state(work / part) for work in (refused.work, tmp_path)]
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
    log = (tmp_path / "width-1-16/log.csv").read_text().splitlines()
    assert log[0].split(",")[:3] == ["step", "rate", "held_out_mouth_psnr"]
    assert [row.split(",")[0] for row in log[1:]] == ["4", "8"]


def accept_all(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("MOUTH_PSNR_DB", 0), ("CORRELATION", -2), ("SILENCE_CLOSED", 1), ("SEAM", 255), ("SHIFT", 0),
    ):  # fmt: skip
        monkeypatch.setattr(figures, name, value)
    monkeypatch.setattr(
        "lipsync_preprocessing.distillation.figures.best_shift", lambda *_: (0.5, 0)
    )


def test_a_student_of_the_teachers_width_leaves_the_rest_of_the_frame(
    berta: Path,
    spoken: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Any,
    taught: Taught,
) -> None:
    accept_all(monkeypatch)
    region = slice(96, 288), slice(64, 320)
    monkeypatch.setattr("lipsync_preprocessing.distillation.distil.moved_region", lambda *_: region)
    lines: list[str] = []
    options = replace(OPTIONS, width=2 * SMALLEST, resume=True)

    def interrupt(what: str, done: int, _total: int) -> None:
        if what == "teaching" and done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teach(berta, spoken, tmp_path / "work", options, say=lines.append, report=interrupt)
    card, _ = teach(berta, spoken, tmp_path / "work", options, say=lines.append)
    assert lines.count("beginning with the teacher's weights") == 1
    assert "going on at step 4 of 8" in lines
    assert card.lines()[0] == "width 1/8, rows 96-288 and columns 64-320 of the face's 320"
    # The learning rate of such a student is lower.
    folder = tmp_path / "work/eighth"
    log = (folder / "log.csv").read_text().splitlines()
    assert float(log[1].split(",")[1]) <= 0.3 * OPTIONS.loop.rate
    lessons = taught.lessons
    row = lessons.plan.held_out.start
    frame = int(lessons.plan.frames[row])
    place = np.array([[place_of(frame, COUNT)]])
    audio = lessons.windows(np.array([row])).numpy()
    model = str(berta / f"{NAME}_generator/2/model.onnx")
    ((came,), (truth,)) = (
        run(path, loop_index=place, audio=audio) for path in (model, model.replace("/2/", "/1/"))
    )
    outside = np.ones((320, 320), bool)
    outside[region] = False
    np.testing.assert_array_equal(came[outside], lessons.faces[frame][outside])
    network = TorchGenerator(float(2 * SMALLEST))
    network.load_state_dict(torch.load(folder / CHECKPOINT, weights_only=True))
    with torch.no_grad():
        (painted,) = to_images(infer(network.eval(), lessons.pairs(np.array([row]), region)))
    inner = slice(16, -16), slice(16, -32)  # without the edges along which it fades
    assert np.abs(came[region][inner].astype(int) - painted[inner]).max() <= 1
    # Eight small steps from the teacher's own weights are not far from the teacher.
    away = np.abs(came[region][inner].astype(int) - truth[region][inner]).mean()
    own = np.abs(lessons.faces[frame][region][inner].astype(int) - truth[region][inner]).mean()
    print(f"{away:.1f} grey levels from the teacher, the frame's own face {own:.1f}")
    assert away < 0.5 * own


def test_a_student_that_saves_nothing_is_not_begun(
    berta: Path, spoken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lipsync_preprocessing.distillation.distil.moved_region", lambda *_: WHOLE)
    for _ in range(2):  # the second one, too: there is nothing to resume
        with pytest.raises(TrainingError, match=r"moves the whole face.* a --width below 1/8"):
            teach(berta, spoken, tmp_path, replace(OPTIONS, width=2 * SMALLEST))


def test_a_student_becomes_a_version_that_computes_what_was_trained(
    berta: Path,
    spoken: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Any,
    taught: Taught,
) -> None:
    accept_all(monkeypatch)
    card, version = teach(berta, spoken, tmp_path / "work", OPTIONS)
    assert version == 2
    (student,) = Repository(berta).avatar(NAME).students
    assert (student.width, student.teacher) == ("1/16", 1)
    folder = berta / f"{NAME}_generator/2"
    written = json.loads((folder / "student.json").read_text())
    assert (written["teacher_width"], written["steps"], written["pairs"]) == ("1/8", 8, 12)
    assert written["figures"]["mouth_psnr_db"] == card.figures.mouth_psnr_db
    assert "width 1/16, the whole face" in card.lines()
    assert any("taught by version 1 of width 1/8" in line for line in card.lines())
    assert width_of(onnx.load(str(folder / "model.onnx"))) == SMALLEST
    network = TorchGenerator(float(SMALLEST))
    network.load_state_dict(
        torch.load(tmp_path / "work/width-1-16" / CHECKPOINT, weights_only=True)
    )
    row = taught.lessons.plan.held_out.start
    batch = taught.lessons.pairs(np.array([row]))
    with torch.no_grad():
        (expected,) = to_images(infer(network.eval(), batch))
    place = np.array([[place_of(int(taught.lessons.plan.frames[row]), COUNT)]])
    (came,) = run(str(folder / "model.onnx"), loop_index=place, audio=batch.audio.numpy())
    assert np.abs(came.astype(int) - expected).max() <= 1
    # Another one may be taught without --resume, with the same patches of the teacher.
    assert not (tmp_path / "work/width-1-16/inputs.json").exists()
    assert not (tmp_path / "work/width-1-16/student").exists()


def test_mistakes_of_the_command(
    berta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = tmp_path / "short.wav"
    soundfile.write(short, talking.audio(50), 16_000)

    def command(*arguments: object) -> Any:
        fixed = ["--repository", str(berta), "--work", str(tmp_path / "work")]
        return CliRunner().invoke(main, ["distil", *map(str, arguments), *fixed])

    wide = command(NAME, "--width", "1/4", "--speech", short)
    assert wide.exit_code == 1
    assert (
        "a --width below that of its own generator, 1/8 of the true size, or for --region mouth the same, got"
        " 1/4 for --region mouth" in wide.stderr
    )
    same = command(NAME, "--width", "1/8", "--region", "face", "--speech", short)
    assert "got 1/8 for --region face" in same.stderr
    few = command(NAME, "--width", "1/16", "--speech", short)
    assert "short.wav: expected at least 10 s of speech, got 2.0 s" in few.stderr
    assert "no avatar 'nobody'" in command("nobody", "--width", "1/16", "--speech", short).stderr
    assert "nothing to learn from in demo_generator" in command("demo", "--width", "1/4").stderr
    assert command(NAME, "--width", "huge").exit_code == 2
    assert speech.default_speech()[0].is_file()
    monkeypatch.setattr(speech, "IN_CHECKOUT", False)
    none = command(NAME, "--width", "1/16")
    assert "give at least 10 s with --speech FILE" in none.stderr
    assert none.exit_code == 1
    assert not (tmp_path / "work").exists()
