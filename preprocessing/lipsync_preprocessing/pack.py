"""The frame pack `frames.npz`: all that the compositor needs of an avatar's frames.

    images   uint8 [bytes]   every full frame as JPEG, WebP or PNG, one after the other
    offsets  int64 [K + 1]   where each begins
    rects    int32 [K, 4]    face rectangle x1, y1, x2, y2, inside the frame
    size     int32 [2]       width, height
    masks, mask_offsets      optional: a PNG a frame, the rectangle's size, 255 where the original stays

Numpy, no pickles, not compressed (the pictures are): it loads as fast as the disk reads, and its
members can be mapped into memory where they lie.

JPEGs stay as they came, byte for byte. A video's frames become lossless WebP: half of PNG's size,
and a third faster to decode.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from lipsync_preprocessing.dataset import Dataset, Frame, Progress, encode_png
from lipsync_preprocessing.errors import RepositoryError
from lipsync_preprocessing.faces import Image, cut_face
from lipsync_preprocessing.networks import FACE

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def write_pack(dataset: Dataset, path: Path, faces: Path, progress: Progress | None = None) -> None:
    """Write the pack and, in the same pass, the faces as raw uint8 [K,320,320,3] BGR.

    Memory stays bounded: frames go through a file beside `path`, which is gone at the end.
    """
    offsets, masks, mask_offsets = [0], [b""], [0]
    spool = path.with_suffix(".spool")
    with spool.open("wb") as images, faces.open("wb") as faces_file:
        for done, (image, face, mask) in enumerate(_in_parallel(_encode, dataset.read()), 1):
            offsets.append(offsets[-1] + images.write(image))
            faces_file.write(face)
            masks.append(mask)
            mask_offsets.append(mask_offsets[-1] + len(mask))
            if progress is not None:
                progress(done, len(dataset))
    arrays: dict[str, npt.NDArray[Any]] = {
        "images": np.memmap(spool, np.uint8, "r"),
        "offsets": np.array(offsets, np.int64),
        "rects": np.array(dataset.rects, np.int32),
        "size": np.array([dataset.width, dataset.height], np.int32),
    }
    if mask_offsets[-1]:
        arrays["masks"] = np.frombuffer(b"".join(masks), np.uint8)
        arrays["mask_offsets"] = np.array(mask_offsets, np.int64)
    np.savez(path, **arrays)
    spool.unlink()


def map_faces(path: Path) -> Image:
    """The faces written by `write_pack`, uint8 [K,320,320,3] BGR, mapped from the file."""
    flat: Image = np.memmap(path, np.uint8, "r")
    return flat.reshape(-1, FACE, FACE, 3)


def read_pack(path: Path) -> Iterator[Frame]:
    """Every frame of a pack, in order; RepositoryError if it is none."""
    try:
        with np.load(path, allow_pickle=False) as pack:
            arrays = {name: pack[name] for name in pack.files}
        images, offsets, rects = arrays["images"], arrays["offsets"], arrays["rects"]
    except (OSError, ValueError, KeyError) as error:
        raise RepositoryError(f"{path}: expected a frame pack: {error}") from error
    for k, rect in enumerate(rects.tolist()):
        image: Image = cv2.imdecode(images[offsets[k] : offsets[k + 1]], cv2.IMREAD_COLOR)
        mask: Image | None = None
        if "masks" in arrays:
            begin, end = arrays["mask_offsets"][k : k + 2]
            if begin < end:
                mask = cv2.imdecode(arrays["masks"][begin:end], cv2.IMREAD_GRAYSCALE)
        yield Frame(image, tuple(rect), mask)


def write_faces(pack: Path, faces: Path) -> None:
    """The faces of a pack, as `write_pack` writes them."""
    with faces.open("wb") as file:
        for frame in read_pack(pack):
            file.write(cut_face(frame.image, frame.rect).tobytes())


def _encode(frame: Frame) -> tuple[bytes, bytes, bytes]:
    """The picture, the face's pixels, and the mask, which need not be stored if it keeps nothing."""
    face = cut_face(frame.image, frame.rect).tobytes()
    if frame.mask is None or not frame.mask.any():
        return frame.encode(), face, b""
    return frame.encode(), face, encode_png(frame.mask)


def _in_parallel(work: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
    """Results in order, with two items a processor in memory (OpenCV leaves the GIL)."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[_Out]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
