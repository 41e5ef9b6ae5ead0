"""The files that this package brings: the shared models, the demo avatar's configs, and its data.

In a checkout `models` and `demo` are links to the model repository and to the demo avatar's weights; in an
installed package they are folders.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

from lipsync_preprocessing.repository.names import (
    COMPOSITOR,
    CONFIG,
    GENERATOR,
    PACK,
    SHARED,
    TEMPLATE,
)

MODELS = Path(__file__).with_name("models").resolve()
DEMO = Path(__file__).with_name("demo").resolve()
DEMO_PACK, DEMO_GENERATOR, DEMO_ENCODER = (
    DEMO / name for name in (PACK, "generator.onnx", "audio_encoder.onnx")
)
# The ensemble comes last: with its config an avatar is there.
MODEL_NAMES = (*SHARED, TEMPLATE + GENERATOR, TEMPLATE + COMPOSITOR, TEMPLATE)
IN_CHECKOUT = (MODELS.parent / "pyproject.toml").is_file()


def model_files(model: str) -> list[Path]:
    """Return the files of a model, relative to the repository: its config and its Python modules."""
    modules = sorted((MODELS / model / "1").glob("*.py"))
    return [path.relative_to(MODELS) for path in (*modules, MODELS / model / CONFIG)]


def digest() -> str:
    """Return the package's version and a digest of all these files."""
    found = hashlib.sha256()
    texts = [MODELS / path for model in MODEL_NAMES for path in model_files(model)]
    for path in (*texts, DEMO_PACK, DEMO_GENERATOR, DEMO_ENCODER):
        found.update(path.read_bytes())
    return f"{version('lipsync-triton')} {found.hexdigest()}\n"
