"""Draw faces with mouths from the whole corpus, for each frame of the avatar.

    python faces.py WORK [--mouths 40]

Read WORK/corpus.npz; write WORK/faces.npy, uint8 [frames * mouths, 320, 320, 3] BGR, and WORK/moments.npy, int64
[frames * mouths, 2]: the clip of each face, and its frame in the clip. The faces of one frame are neighbours.
"""

from __future__ import annotations

import itertools
import sys
from multiprocessing import Pool
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).resolve().parents[1]))
from draw import JPEG_QUALITY, draw_face
from motion import FRAMES
from mouth import CLOSED, Mouth

CROP, FACE, BORDER = 328, 320, 4  # pixels, of the contract


def face_of(frame: int, mouth: Mouth) -> NDArray[np.uint8]:
    """Return a face as the generator sees it or should make it: uint8 [320, 320, 3] BGR."""
    ok, data = cv2.imencode(
        ".jpg", draw_face(frame, mouth), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    assert ok
    crop = cv2.resize(
        cv2.imdecode(data, cv2.IMREAD_COLOR), (CROP, CROP), interpolation=cv2.INTER_CUBIC
    )
    return crop[BORDER : BORDER + FACE, BORDER : BORDER + FACE]


def _draw(job: tuple[int, list[float]]) -> NDArray[np.uint8]:
    frame, values = job
    return face_of(frame, Mouth(*values))


@click.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--mouths", default=40)
def main(work: Path, mouths: int) -> None:
    """Draw all faces; the first face of each frame has its mouth closed, like the avatar's own."""
    with np.load(work / "corpus.npz") as stored:
        frames, counts = stored["frames"], stored["frame_counts"]
    rng = np.random.default_rng(1)
    starts = np.concatenate([[0], counts.cumsum()])
    # A face needs eight frames of its clip on both sides, as most frames of a clip have them.
    inner = np.concatenate([np.arange(s + 9, e - 8) for s, e in itertools.pairwise(starts)])
    rows = rng.choice(inner, (FRAMES, mouths))
    still = inner[np.abs(frames[inner]).max(1) < 1e-3]
    rows[:, 0] = rng.choice(still, FRAMES)
    rows = rows.ravel()
    clips = np.searchsorted(starts, rows, "right") - 1
    np.save(work / "moments.npy", np.stack([clips, rows - starts[clips]], axis=1))
    jobs = []
    for n, row in enumerate(rows):
        values = CLOSED.values() if n % mouths == 0 else [float(v) for v in frames[row]]
        jobs.append((n // mouths, list(values)))
    faces = np.lib.format.open_memmap(
        work / "faces.npy", "w+", np.uint8, (len(jobs), FACE, FACE, 3)
    )
    with Pool(2) as pool, click.progressbar(pool.imap(_draw, jobs, 16), length=len(jobs)) as drawn:
        for n, face in enumerate(drawn):
            faces[n] = face
    faces.flush()


if __name__ == "__main__":
    main()
