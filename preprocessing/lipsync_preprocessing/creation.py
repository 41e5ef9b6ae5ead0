"""Making an avatar of a video, step by step; each step leaves a whole result, so it is not taken twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lipsync_preprocessing.avatar import add_avatar
from lipsync_preprocessing.avatar.trial import SECONDS, try_avatar
from lipsync_preprocessing.errors import AvatarError, ModelControlError, RecordingError
from lipsync_preprocessing.files import check_file
from lipsync_preprocessing.profiles.settings import ProfileSettings
from lipsync_preprocessing.profiles.tune import AUTO, tune
from lipsync_preprocessing.recording import RecordingOptions, make_dataset
from lipsync_preprocessing.recording.face_models import find_face_models
from lipsync_preprocessing.recording.making import REST
from lipsync_preprocessing.repository import Repository, check_name

if TYPE_CHECKING:
    from lipsync_preprocessing.training.train import TrainingOptions

Report = Callable[[str, int, int], None]
Say = Callable[[str], None]

DATASET, CHECKPOINT, SOURCE = "dataset", "generator.pth", "source.json"


@dataclass(frozen=True)
class Creation:
    """The inputs of a new avatar, and its options.

    Attributes:
        name: of the avatar.
        video: the recording.
        encoder: the audio encoder's ONNX file or checkpoint.
        work: folder for the dataset and the training.
        recording, training: options of these steps.
        rest_loop: the avatar shows the rest loop, if the recording has one.
        tuned: a profile is measured.
        models: folder of the face models; None for the user's cache.
    """

    name: str
    video: Path
    encoder: Path
    work: Path
    recording: RecordingOptions
    training: TrainingOptions
    rest_loop: bool = True
    tuned: bool = True
    models: Path | None = None


def create_avatar(repository: Path, creation: Creation, report: Report, say: Say) -> None:
    """Take the steps that are not done yet.

    Raises:
        AvatarError: an input cannot be used, or the avatar does not work; the steps before are kept.
    """
    from lipsync_preprocessing.training.train import train_generator  # needs torch

    name, work = creation.name, creation.work
    check_name(name)
    store = Repository(repository)
    _check_source(creation)
    dataset, checkpoint = work / DATASET, work / CHECKPOINT
    if store.directory(name).exists() and not checkpoint.exists():
        raise AvatarError(f"{store.root}: {name} exists already; remove it, or choose another name")
    if not dataset.exists():
        models = find_face_models(creation.models, say)
        made = make_dataset(creation.video, dataset, models, creation.recording, report)
        for finding in made.findings:
            say(f"warning: {finding}")
        say(f"dataset: {made.frames} frames; look at {made.directory / 'report.html'}")
    if not checkpoint.exists():
        card = train_generator(
            dataset, creation.encoder, checkpoint, creation.training, report=report, say=say
        )
        for line in card.lines():
            say(line)
    if not store.directory(name).exists():
        rest = dataset / REST
        frames = rest if creation.rest_loop and rest.is_dir() else dataset
        added = add_avatar(repository, name, frames, checkpoint, creation.encoder, report=report)
        say(f"{name}: added, {added.frames} frames of {added.width}x{added.height}")
    if creation.tuned and not store.avatar(name).profiles:
        tune(repository, name, AUTO, ProfileSettings(), say=say)
    try:
        trial = try_avatar(repository, name)
    except ModelControlError as error:
        raise ModelControlError(f"{error} (to try again: lipsync-avatar check {name})") from error
    say(
        f"{name}: ok, {trial.frames} frames for {SECONDS} s of audio in {trial.seconds:.1f} s;"
        f" speech changes the face by {trial.difference:.1f} grey levels"
    )


def _check_source(creation: Creation) -> None:
    """Remember what the work folder was begun with; raise RecordingError if it was something else."""
    check_file(creation.video, RecordingError)
    path = creation.work / SOURCE
    with creation.video.open("rb") as file:
        digest = _digest(file)
    source = {"video": digest, "recording": asdict(creation.recording)}
    source = json.loads(json.dumps(source))
    if not path.is_file():
        try:
            creation.work.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(source))
        except OSError as error:
            raise RecordingError(f"{path}: cannot be written: {error.strerror}") from error
        return
    before = json.loads(path.read_text())
    for what in source:
        if before.get(what) != source[what]:
            raise RecordingError(
                f"{creation.work}: was begun with another {what}; name another folder with --work, or remove"
                " this one"
            )


def _digest(file: BinaryIO) -> str:
    found = hashlib.sha256()
    while block := file.read(1 << 20):
        found.update(block)
    return found.hexdigest()
