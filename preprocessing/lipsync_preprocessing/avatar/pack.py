"""The frame pack `frames.npz`: what the compositor needs of an avatar's frames.

    images   uint8 [bytes]   every frame as JPEG, or the packets of a video, one after the other
    offsets  int64 [K + 1]   where each begins
    rects    int32 [K, 4]    face rectangle x1, y1, x2, y2, inside the frame
    size     int32 [2]       width, height
    masks, mask_offsets      optional: a PNG per frame, the rectangle's size, 255 where the original stays
    codec, extradata, groups of a video: FFmpeg's name of the decoder (uint8, ASCII) and its parameters, and
                             int64 [G + 1], the first frame of each group that is decoded by itself

Numpy without pickles, not compressed (the images are): it loads as fast as the disk reads, and its members
can be mapped into memory. Frames are stored as they were read, so nothing is lost; see `dataset.video`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from lipsync_preprocessing.avatar.faces import cut_face
from lipsync_preprocessing.contract import FACE
from lipsync_preprocessing.dataset.images import encode_png
from lipsync_preprocessing.dataset.types import Dataset, Frame, Image, Progress
from lipsync_preprocessing.dataset.video import decode_group, to_bgr
from lipsync_preprocessing.errors import RepositoryError

_In = TypeVar("_In")
_Out = TypeVar("_Out")
_Arrays = Mapping[str, npt.NDArray[Any]]


def write_pack(dataset: Dataset, path: Path, faces: Path, progress: Progress | None = None) -> None:
    """Write the pack and, in the same pass, the faces as raw uint8 [K,320,320,3] BGR.

    Memory stays bounded: frames are collected in a file beside `path`, which is deleted at the end.

    Raises:
        DatasetError: a frame or a mask cannot be used.
    """
    offsets, masks, mask_offsets = [0], [b""], [0]
    spool = path.with_suffix(".spool")
    coding = dataset.coding()
    with spool.open("wb") as images, faces.open("wb") as faces_file:
        for done, (image, face, mask) in enumerate(_in_parallel(_prepare, dataset.read()), 1):
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
    if coding is not None:
        arrays["codec"] = np.frombuffer(coding.codec.encode(), np.uint8)
        arrays["extradata"] = np.frombuffer(coding.extradata, np.uint8)
        arrays["groups"] = np.array(coding.groups, np.int64)
    np.savez(path, **arrays)
    spool.unlink()


def map_faces(path: Path) -> Image:
    """Return the faces that `write_pack` wrote, uint8 [K,320,320,3] BGR, mapped from the file."""
    flat: Image = np.memmap(path, np.uint8, "r")
    return flat.reshape(-1, FACE, FACE, 3)


def read_pack(path: Path) -> Iterator[Frame]:
    """Yield every frame of a pack, in order; raise RepositoryError if the file is none."""
    try:
        with np.load(path, allow_pickle=False) as pack:
            arrays = {name: pack[name] for name in pack.files}
        rects = arrays["rects"].tolist()
        images = _images(arrays)
    except (OSError, ValueError, KeyError) as error:
        raise RepositoryError(f"{path}: expected a frame pack: {error}") from error
    for k, (rect, image) in enumerate(zip(rects, images, strict=True)):
        mask: Image | None = None
        if "masks" in arrays:
            begin, end = arrays["mask_offsets"][k : k + 2]
            if begin < end:
                mask = cv2.imdecode(arrays["masks"][begin:end], cv2.IMREAD_GRAYSCALE)
        yield Frame(image, tuple(rect), mask)


def write_faces(pack: Path, faces: Path) -> None:
    """Write the faces of a pack, as `write_pack` does."""
    with faces.open("wb") as file:
        for frame in read_pack(pack):
            file.write(cut_face(frame.image, frame.rect).tobytes())


def _images(arrays: _Arrays) -> Iterator[Image]:
    data, offsets = arrays["images"], arrays["offsets"].tolist()
    stored = (data[a:b] for a, b in pairwise(offsets))
    if "codec" not in arrays:
        return (cv2.imdecode(image, cv2.IMREAD_COLOR) for image in stored)
    codec, extradata = bytes(arrays["codec"]).decode(), bytes(arrays["extradata"])
    packets = [bytes(packet) for packet in stored]
    groups = pairwise(arrays["groups"].tolist())
    return (
        to_bgr(frame) for a, b in groups for frame in decode_group(codec, extradata, packets[a:b])
    )


def _prepare(frame: Frame) -> tuple[bytes, bytes, bytes]:
    """Return what is stored of a frame: its data, its face, and its mask if that keeps any pixel."""
    face = cut_face(frame.image, frame.rect).tobytes()
    if frame.mask is None or not frame.mask.any():
        return frame.data, face, b""
    return frame.data, face, encode_png(frame.mask)


def _in_parallel(work: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
    """Yield results in order, with two items per processor in memory (OpenCV releases the GIL)."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[_Out]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
