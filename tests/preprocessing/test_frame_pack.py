"""The frame pack: what is written, and what the compositor reads."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import av
import lipsync_frames
import numpy as np
import pytest
from lipsync_pack import StoredFrames

from lipsync_client import protocol
from lipsync_preprocessing import contract
from lipsync_preprocessing.avatar.faces import cut_face
from lipsync_preprocessing.avatar.pack import map_faces, read_pack, write_pack
from lipsync_preprocessing.dataset import Dataset, read_dataset
from lipsync_preprocessing.dataset.video import GROUP
from lipsync_preprocessing.errors import RepositoryError
from support.toy_datasets import COUNT, make_frames, make_packaged, make_raw, rect_of, write_video


@pytest.mark.parametrize("kind", ["raw", "masks", "videos"])
def test_the_compositor_reads_what_is_written(kind: str, tmp_path: Path) -> None:
    if kind == "videos":
        directory = make_packaged(tmp_path / "d", videos=True)
    else:
        directory = make_raw(tmp_path / "d", masks=kind == "masks")
    dataset = read_dataset(directory)
    write_pack(dataset, tmp_path / "frames.npz", tmp_path / "faces.raw")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d", "faces.raw", "frames.npz"]
    avatar = lipsync_frames.AvatarFrames(tmp_path / "frames.npz", 1 << 20)
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
            mask = again[k].mask
            assert mask is not None
            np.testing.assert_array_equal(mask, frame.mask)


def video_dataset(directory: Path, count: int) -> Dataset:
    """Read a packaged dataset whose video is there already."""
    rects = {str(k): {"rect": [10, 10, 80, 80]} for k in range(count)}
    (directory / "crop_rectangles.json").write_text(json.dumps(rects))
    return read_dataset(directory)


def check_random_access(dataset: Dataset, tmp_path: Path) -> None:
    """Assert that frames read from the pack in any order equal the dataset's, bit for bit."""
    pack = tmp_path / "frames.npz"
    write_pack(dataset, pack, tmp_path / "faces.raw")
    frames = [frame.image for frame in dataset.read()]
    stored = StoredFrames(pack)
    places = [*range(len(frames)), *reversed(range(len(frames)))]
    for k in (*places, *random.Random(0).sample(places, 20)):
        np.testing.assert_array_equal(stored[k], frames[k])
    for frame, image in zip(read_pack(pack), frames, strict=True):
        np.testing.assert_array_equal(frame.image, image)


def test_packets_of_a_video_stay_as_they_are(tmp_path: Path) -> None:
    """OpenCV writes a key frame every twelve: each such group is decoded by itself."""
    video = tmp_path / "full_body_video.mp4"
    write_video(video, make_frames(30))
    dataset = video_dataset(tmp_path, 30)
    coding = dataset.coding()
    assert coding is not None
    assert (coding.codec, coding.groups) == ("mpeg4", (0, 12, 24, 30))
    assert sum(len(frame.data) for frame in dataset.read()) < video.stat().st_size
    check_random_access(dataset, tmp_path)


@pytest.mark.parametrize(
    "options", [{}, {"g": "10", "bf": "2"}, {"x264-params": "open-gop=1:keyint=10"}]
)
def test_any_video_is_stored_without_loss(options: dict[str, str], tmp_path: Path) -> None:
    """Few key frames, reordered frames, groups that need their neighbours."""
    frames: list[Any] = make_frames(40)
    with av.open(str(tmp_path / "full_body_video.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))
    dataset = video_dataset(tmp_path, 40)
    coding = dataset.coding()
    assert coding is not None
    assert max(b - a for a, b in zip(coding.groups, coding.groups[1:], strict=False)) <= GROUP
    check_random_access(dataset, tmp_path)


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


def test_the_contracts_numbers_are_the_same_everywhere() -> None:
    """Its directory stands alone, and the client needs no preprocessing: neither can import them."""
    assert (lipsync_frames.CROP, lipsync_frames.BORDER) == (contract.CROP, contract.BORDER)
    rim = np.ones((contract.FACE, contract.FACE), bool)
    rim[contract.MASK_ROWS, contract.MASK_COLUMNS] = False
    np.testing.assert_array_equal(lipsync_frames._RIM, rim)
    assert contract.FRAME_RATE == protocol.FPS
