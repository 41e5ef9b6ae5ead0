"""Compare the engines and the students of an avatar with its own generator in ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from lipsync_embedded.accelerator import PRECISIONS, OpenVino, cpu_has_bf16
from lipsync_embedded.openvino_engine import OpenVinoItems
from lipsync_preprocessing.dataset.types import Image
from lipsync_preprocessing.distillation.figures import Figures, Paster, PatchSource, compare
from lipsync_preprocessing.distillation.lessons import Lessons, make_plan, write_lessons
from lipsync_preprocessing.distillation.mouth import TaughtMouth
from lipsync_preprocessing.distillation.speech import Voices, read_speech
from lipsync_preprocessing.distillation.teacher import ServedGenerator, graph_file, place_of
from lipsync_preprocessing.repository import GENERATOR, Repository

from .case import AVATAR, ROOT, WORK, cores
from .tables import table

_PAIRS = 400  # which show how the mouth moves
_CHUNK = 16  # frames


class OpenVinoGenerator:
    """A compiled generator in OpenVINO, as the embedded server runs it; a PatchSource.

    Args:
        path: its ONNX file.
        frames: number of the avatar's frames.
        precision: "f32" or "bf16".
    """

    def __init__(self, path: Path, frames: int, precision: str) -> None:
        inputs, settings = ["loop_index", "audio"], OpenVino(precision)
        self._items = OpenVinoItems(path, inputs, ["patch"], cores(), settings)
        self._frames = frames

    def patches(self, frames: Sequence[int], windows: npt.NDArray[np.float32]) -> Iterator[Image]:
        """Yield the patch of each of these frames with its audio window, uint8 (320, 320, 3) BGR."""
        for k in range(0, len(frames), _CHUNK):
            places = [[place_of(frame, self._frames)] for frame in frames[k : k + _CHUNK]]
            ((found,),) = self._items(
                [np.array(places, np.int64), windows[k : k + _CHUNK]], [len(places)]
            )
            yield from found


def figures_of(
    repository: Path, avatar: str, speech: Sequence[Path], work: Path
) -> dict[str, Figures]:
    """Return the figures of each engine and student, by name.

    Args:
        repository: with the avatar.
        avatar: its name.
        speech: audio files; their ends are what is compared.
        work: an empty folder for the patches of the avatar's own generator.
    """
    store = Repository(repository)
    installed = store.avatar(avatar)
    frames, own = installed.frames, installed.versions[-1]

    def file(version: int) -> Path:
        return graph_file(store.model_file(avatar + GENERATOR, version))

    voices = Voices(read_speech(speech), store.model_file(installed.encoder))
    plan = make_plan(frames, voices, _PAIRS)
    write_lessons(
        work, store.pack(avatar), plan, voices, ServedGenerator(file(own), frames), lambda *_: None
    )
    lessons = Lessons(work, plan, voices)
    mouth, paste = TaughtMouth(*lessons.probes()[:2]), Paster(store, avatar)
    precisions = [p for p in PRECISIONS if p == "f32" or cpu_has_bf16()]
    sources: dict[str, PatchSource] = {
        f"its own generator, OpenVINO {p}": OpenVinoGenerator(file(own), frames, p)
        for p in precisions
    }
    for student in installed.students:
        path, title = file(student.version), f"student of width {student.width}"
        sources[f"{title}, ONNX Runtime"] = ServedGenerator(path, frames)
        for p in precisions:
            sources[f"{title}, OpenVINO {p}"] = OpenVinoGenerator(path, frames, p)
    return {name: compare(source, lessons, mouth, paste) for name, source in sources.items()}


@click.command()
@click.argument("repository", type=click.Path(path_type=Path, exists=True))
@click.option("--avatar", default=AVATAR, show_default=True, help="Its name.")
@click.option(
    "--speech",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Speech of any voice; may repeat.  [default: examples/speech.wav]",
)
def main(repository: Path, avatar: str, speech: tuple[Path, ...]) -> None:
    """Compare an avatar's engines and students with its own generator in ONNX Runtime. Needs torch."""
    files = speech or (ROOT / "examples/speech.wav",)
    WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        found = figures_of(repository, avatar, files, Path(folder))
    head = ["", "mouth, PSNR dB", "SSIM", "patch, PSNR dB", "opening", "shift", "silence", "edge"]
    lines = [
        [
            name,
            f"{f.mouth_psnr_db:.1f}",
            f"{f.mouth_ssim:.4f}",
            f"{f.patch_psnr_db:.1f}",
            f"{f.correlation:.4f}",
            f"{f.shift:+d}",
            f"{f.silence_closed:.1%}",
            f"{f.seam:+.2f}",
        ]
        for name, f in found.items()
    ]
    click.echo(table(head, lines))
