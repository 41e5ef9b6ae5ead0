"""Draw the demo avatar, and write its frame pack: weights/frames.npz.

    python examples/demo/make_pack.py

It is run after a change of the drawing; the networks are trained for the drawing of their time.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import draw

from lipsync_preprocessing.avatar.pack import write_pack
from lipsync_preprocessing.dataset import read_dataset

PACK = Path(__file__).resolve().parent / "weights/frames.npz"


def main() -> None:
    """Draw the frames into a temporary dataset, and pack it."""
    with tempfile.TemporaryDirectory() as folder:
        dataset, pack = Path(folder) / "dataset", Path(folder) / PACK.name
        draw.write_dataset(dataset)
        write_pack(read_dataset(dataset), pack, Path(folder) / "faces.raw")
        PACK.write_bytes(pack.read_bytes())


if __name__ == "__main__":
    main()
