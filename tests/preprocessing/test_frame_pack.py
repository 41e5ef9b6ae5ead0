from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lipsync_preprocessing.avatar.faces import cut_face
from lipsync_preprocessing.avatar.pack import map_faces, read_pack, write_pack
from lipsync_preprocessing.dataset import read_dataset
from lipsync_preprocessing.errors import RepositoryError
from support.toy_datasets import COUNT, MODEL_REPOSITORY, make_packaged, make_raw, rect_of


def load_compositor_module() -> Any:
    path = MODEL_REPOSITORY / "demo_compositor" / "1" / "lipsync_frames.py"
    spec = importlib.util.spec_from_file_location("lipsync_frames_for_pack_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", ["raw", "masks", "videos"])
def test_the_compositor_reads_what_is_written(kind: str, tmp_path: Path) -> None:
    if kind == "videos":
        directory = make_packaged(tmp_path / "d", videos=True)
    else:
        directory = make_raw(tmp_path / "d", masks=kind == "masks")
    dataset = read_dataset(directory)
    write_pack(dataset, tmp_path / "frames.npz", tmp_path / "faces.raw")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d", "faces.raw", "frames.npz"]
    avatar = load_compositor_module().AvatarFrames(tmp_path / "frames.npz", 1 << 20)
    faces = map_faces(tmp_path / "faces.raw")
    assert len(avatar) == len(faces) == COUNT
    assert (avatar.width, avatar.height) == (dataset.width, dataset.height)
    patch = np.full((320, 320, 3), 128, np.uint8)
    again = list(read_pack(tmp_path / "frames.npz"))
    for k, frame in enumerate(dataset.read()):
        np.testing.assert_array_equal(avatar.bgr(k), frame.image)
        np.testing.assert_array_equal(faces[k], cut_face(frame.image, frame.rect))
        assert tuple(avatar.rects[k]) == rect_of(k) == again[k].rect
        x1, y1, x2, y2 = frame.rect
        crop = frame.image[y1:y2, x1:x2]
        patched = avatar.patched(k, crop, patch)
        if frame.mask is not None:
            kept = frame.mask != 0
            np.testing.assert_array_equal(patched[kept], crop[kept])
            assert (patched[~kept] != crop[~kept]).any()
            np.testing.assert_array_equal(again[k].mask, frame.mask)


def test_pack_is_plain_numpy(raw_dataset: Path, tmp_path: Path) -> None:
    write_pack(read_dataset(raw_dataset), tmp_path / "frames.npz", tmp_path / "faces.raw")
    with np.load(tmp_path / "frames.npz", allow_pickle=False) as pack:
        arrays = dict(pack)
    assert {n: a.dtype for n, a in arrays.items()} == {
        "images": np.uint8,
        "offsets": np.int64,
        "rects": np.int32,
        "size": np.int32,
    }
    assert arrays["offsets"][-1] == len(arrays["images"])


def test_no_pack(tmp_path: Path) -> None:
    (tmp_path / "frames.npz").write_bytes(b"text")
    with pytest.raises(RepositoryError, match="expected a frame pack"):
        list(read_pack(tmp_path / "frames.npz"))
