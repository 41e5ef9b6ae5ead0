from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from lipsync_preprocessing.dataset import read_dataset
from lipsync_preprocessing.errors import DatasetError
from lipsync_preprocessing.faces import cut_face
from support.toy_datasets import (
    COUNT,
    HEIGHT,
    WIDTH,
    make_packaged,
    make_raw,
    rect_of,
    write_landmarks,
)


def test_raw_frames_come_byte_for_byte(raw_dataset: Path) -> None:
    dataset = read_dataset(raw_dataset)
    assert (len(dataset), dataset.width, dataset.height) == (COUNT, WIDTH, HEIGHT)
    for k, frame in enumerate(dataset.read()):
        path = raw_dataset / "full_body_img" / f"{k}.jpg"
        assert frame.encode() == path.read_bytes()
        np.testing.assert_array_equal(frame.image, cv2.imread(str(path)))
        assert frame.rect == rect_of(k)  # fractions truncated
        assert frame.mask is None


def test_face_is_the_inner_part_of_the_bicubic_crop(raw_dataset: Path) -> None:
    frame = next(read_dataset(raw_dataset).read())
    x1, y1, x2, y2 = rect_of(0)
    crop = cv2.resize(frame.image[y1:y2, x1:x2], (328, 328), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(cut_face(frame.image, frame.rect), crop[4:324, 4:324])


def test_parsing_keeps_two_colours(tmp_path: Path) -> None:
    directory = make_raw(tmp_path / "d", masks=True)
    for k, frame in enumerate(read_dataset(directory).read()):
        x1, y1, x2, y2 = rect_of(k)
        parsing = cv2.imread(str(directory / "parsing" / f"{k}.png"))[y1:y2, x1:x2].tolist()
        kept = [[pixel in ([0, 0, 255], [255, 255, 255]) for pixel in row] for row in parsing]
        assert frame.mask is not None
        np.testing.assert_array_equal(frame.mask, np.array(kept) * 255)
        assert 0 < np.count_nonzero(kept) < np.size(kept)
    assert all(f.mask is None for f in read_dataset(directory, parsing=False).read())


@pytest.mark.parametrize(
    ("rect", "clipped"),
    [
        ((-20, -5, 60, 75), (0, 0, 60, 75)),
        ((100, 60, 220, 180), (100, 60, WIDTH, HEIGHT)),
        ((-50, -50, 400, 400), (0, 0, WIDTH, HEIGHT)),
    ],
)
def test_rectangles_are_clipped_to_the_frame(rect: Any, clipped: Any, tmp_path: Path) -> None:
    directory = make_packaged(tmp_path / "d", videos=False)
    path = directory / "crop_rectangles.json"
    entries = json.loads(path.read_text())
    entries["2"]["rect"] = list(rect)
    path.write_text(json.dumps(entries))
    assert read_dataset(directory).rects[2] == clipped


@pytest.mark.parametrize("videos", [True, False])
def test_packaged(videos: bool, tmp_path: Path) -> None:
    directory = make_packaged(tmp_path / "d", videos=videos)
    dataset = read_dataset(directory)
    assert (len(dataset), dataset.width, dataset.height) == (COUNT, WIDTH, HEIGHT)
    assert dataset.rects == [rect_of(k) for k in range(COUNT)]
    frames = list(dataset.read())
    assert len(frames) == COUNT
    if videos:
        capture = cv2.VideoCapture(str(directory / "full_body_video.mp4"))
        expected = [capture.read()[1] for _ in range(COUNT)]
        capture.release()
    else:
        files = [directory / "full_body" / f"{k}.jpg" for k in range(COUNT)]
        expected = [cv2.imread(str(f)) for f in files]
        assert [f.encode() for f in frames] == [f.read_bytes() for f in files]
    for frame, image in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(frame.image, image)
        decoded = cv2.imdecode(np.frombuffer(frame.encode(), np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(decoded, image)  # nothing lost on the way to the pack


def overwrite(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda d: (d / name).write_bytes(data) and None


def delete(name: str) -> Callable[[Path], None]:
    return lambda d: shutil.rmtree(d / name) if (d / name).is_dir() else (d / name).unlink()


def cut_in_half(name: str) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        data = (directory / name).read_bytes()
        (directory / name).write_bytes(data[: len(data) // 2])

    return damage


def picture(name: str, width: int, height: int) -> Callable[[Path], None]:
    image = np.zeros((height, width, 3), np.uint8)
    return lambda d: cv2.imwrite(str(d / name), image) and None


def landmarks(k: int, *args: Any, **kwargs: Any) -> Callable[[Path], None]:
    return lambda d: write_landmarks(d / "landmarks" / f"{k}.lms", *args, **kwargs)


RAW_DAMAGE = [
    (delete("full_body_img"), "expected full_body_img/ and landmarks/"),
    (delete("landmarks"), "landmarks: expected a folder"),
    (delete("full_body_img/3.jpg"), "full_body_img/3.jpg: missing; the folder goes on to 4.jpg"),
    (delete("full_body_img/4.jpg"), "landmarks: expected 4 files.*got 5"),
    (delete("landmarks/0.lms"), "landmarks/0.lms: missing"),
    (delete("landmarks/4.lms"), "landmarks: expected 5 files.*got 4"),
    (delete("parsing/4.png"), "parsing: expected 5 files.*got 4"),
    (overwrite("full_body_img/0007.jpg", b"x"), "0007.jpg: expected names 0.jpg"),
    (overwrite("full_body_img/2.jpg", b"text"), "2.jpg: expected a JPEG, got a file that starts"),
    (overwrite("full_body_img/2.jpg", b""), "2.jpg: expected a JPEG"),
    (overwrite("full_body_img/2.jpg", b"\xff\xd8\xff\xd9"), "2.jpg: expected a whole JPEG"),
    (cut_in_half("full_body_img/0.jpg"), "0.jpg: expected a whole JPEG"),
    (cut_in_half("full_body_img/3.jpg"), "3.jpg: expected a whole JPEG"),
    (picture("full_body_img/1.jpg", 80, 60), "1.jpg: expected 160x120 pixels.*got 80x60"),
    (picture("parsing/1.png", 80, 60), "parsing/1.png: expected 160x120 pixels.*got 80x60"),
    (overwrite("parsing/1.png", b"text"), "parsing/1.png: expected a picture, got 4 bytes"),
    (landmarks(2, (10, 10, 50, 0), points=30), "2.lms: expected at least 53 landmarks, got 30"),
    (landmarks(2, (50, 10, 50, 0)), r"2.lms: expected a rectangle x1<x2.*got \[50, 10, 50, 10\]"),
    (
        landmarks(2, (200, 10, 250, 0)),
        r"2.lms: expected a rectangle in the 160x120 frame, got \[200",
    ),
    (landmarks(2, ("nan\x20", 10, 50, 0)), "2.lms: line 2: expected 'x y'"),
    (overwrite("landmarks/1.lms", b"\xff\xfe\x00"), "1.lms: expected text"),
    (overwrite("landmarks/1.lms", b"1 2 3\n" * 60), "1.lms: line 2: expected 'x y', got '1 2 3'"),
]


@pytest.mark.parametrize(("damage", "message"), RAW_DAMAGE, ids=[m for _, m in RAW_DAMAGE])
def test_bad_raw_datasets(damage: Any, message: str, tmp_path: Path) -> None:
    directory = make_raw(tmp_path / "d", masks=True)
    damage(directory)
    refused(directory, message)


def rectangles(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        path = directory / "crop_rectangles.json"
        entries = json.loads(path.read_text())
        path.write_text(json.dumps(change(entries) or entries))

    return damage


PACKAGED_DAMAGE = [
    (delete("full_body_video.mp4"), "expected full_body_video.mp4 or full_body/"),
    (delete("crop_rectangles.json"), "crop_rectangles.json: cannot be read: No such file"),
    (delete("rois_320_video.mp4"), "expected rois_320_video.mp4 or rois_320/"),
    (overwrite("crops_328_video.mp4", b"text"), "crops_328_video.mp4: expected a video"),
    (cut_in_half("full_body_video.mp4"), "full_body_video.mp4: expected a video"),
    (overwrite("crop_rectangles.json", b"{"), "crop_rectangles.json: expected JSON"),
    (overwrite("crop_rectangles.json", b"[]"), "expected an object of rectangles, got list"),
    (rectangles(lambda e: e.pop("3") and None), "one a frame; 1 missing: 3"),
    (rectangles(lambda e: e.update({"9": e["0"]})), "one a frame; 1 extra: 9"),
    (rectangles(lambda e: e.update({"1": [1, 2, 3, 4]})), "'1': expected {\"rect\""),
    (rectangles(lambda e: e["1"].update(rect=[1, 2, 3])), "'1': expected {\"rect\""),
    (rectangles(lambda e: e["1"].update(rect=[1, 2, "3", 4])), "'1': expected {\"rect\""),
    (rectangles(lambda e: e["1"].update(rect=[9, 9, 9, 20])), "'1': expected a rectangle x1<x2"),
    (rectangles(lambda e: e["1"].update(rect=[0, 130, 9, 139])), "'1': expected a rectangle in"),
]


@pytest.mark.parametrize(
    ("damage", "message"), PACKAGED_DAMAGE, ids=[m for _, m in PACKAGED_DAMAGE]
)
def test_bad_packages(damage: Any, message: str, tmp_path: Path) -> None:
    directory = make_packaged(tmp_path / "d", videos=True)
    damage(directory)
    refused(directory, message)


def test_parts_of_different_length(tmp_path: Path) -> None:
    directory = make_packaged(tmp_path / "d", videos=True)
    other = make_packaged(tmp_path / "e", videos=True, count=3)
    shutil.copy(other / "model_inputs_video.mp4", directory)
    refused(directory, "model_inputs_video.mp4: expected 5 frames.*got 3")


def test_no_folder(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "expected a dataset folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "found neither")


def refused(directory: Path, message: str) -> None:
    with pytest.raises(DatasetError, match=message.replace(".jpg", r"\.jpg")) as raised:
        read_dataset(directory).check()
    assert str(raised.value).startswith(str(directory))
    assert "\n" not in str(raised.value)
