"""A student without a training: another toy generator, compiled for an avatar, with a card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from lipsync_preprocessing.avatar.pack import map_faces, write_faces
from lipsync_preprocessing.graphs.compile import write_compiled_generator
from lipsync_preprocessing.graphs.sources import load_generator
from lipsync_preprocessing.repository import Repository


def compile_student(repository: Path, name: str, generator: Path, folder: Path) -> Path:
    """Write a student's folder without a card; return it."""
    folder.mkdir()
    write_faces(Repository(repository).pack(name), folder / "faces")
    faces = map_faces(folder / "faces")
    write_compiled_generator(load_generator(generator), faces, folder / "model.onnx")
    (folder / "faces").unlink()
    return folder


def with_card(compiled: Path, folder: Path, width: str = "1/2", teacher: int = 1) -> Path:
    """Return a copy of a student's folder, with a card."""
    shutil.copytree(compiled, folder)
    card = {"width": width, "teacher_version": teacher}
    (folder / "student.json").write_text(json.dumps(card))
    return folder
