"""Reading a dataset folder: its pixels, its rectangles, its masks, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from lipsync_preprocessing.avatar.faces import cut_face
from lipsync_preprocessing.dataset import DatasetOptions, read_dataset
from lipsync_preprocessing.errors import DatasetError
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
    assert (dataset.frames, dataset.rectangles) == ("full_body_img", "landmarks")
    assert dataset.coding() is None
    for k, frame in enumerate(dataset.read()):
        path = raw_dataset / "full_body_img" / f"{k}.jpg"
        assert frame.data == path.read_bytes()
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
    without = read_dataset(directory, DatasetOptions(parsing=False))
    assert all(f.mask is None for f in without.read())


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


def test_landmarks_with_carriage_returns_and_decimals(raw_dataset: Path) -> None:
    for path in (raw_dataset / "landmarks").iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_dataset(raw_dataset).rects == [rect_of(k) for k in range(COUNT)]


@pytest.mark.parametrize(
    ("points", "left", "right", "top"), [(98, (1,), (31,), 52), (68, (0, 1), (15, 16), 28)]
)
def test_landmarks_of_other_detectors(
    points: int, left: Any, right: Any, top: int, raw_dataset: Path
) -> None:
    for k in range(COUNT):
        x1, y1, x2, _ = rect_of(k)
        lines = np.full((points, 2), 7.0)
        for n, x in zip((*left, *right), (x1,) * len(left) + (x2,) * len(right), strict=True):
            lines[n, 0] = x
        if points == 68:  # the mean of two points
            lines[0, 0], lines[1, 0] = x1 - 4, x1 + 4
        lines[top, 1] = y1
        np.savetxt(raw_dataset / f"landmarks/{k}.lms", lines, fmt="%.1f")
    refused(raw_dataset, f"expected 110 landmarks.*got {points}.*--landmark-points {points}")
    dataset = read_dataset(raw_dataset, DatasetOptions(landmark_points=points))
    assert dataset.rects == [rect_of(k) for k in range(COUNT)]


def overwrite(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda d: (d / name).write_bytes(data)


def delete(name: str) -> Callable[[Path], None]:
    return lambda d: shutil.rmtree(d / name) if (d / name).is_dir() else (d / name).unlink()


def cut_in_half(name: str) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        data = (directory / name).read_bytes()
        (directory / name).write_bytes(data[: len(data) // 2])

    return damage


def image(name: str, width: int, height: int) -> Callable[[Path], object]:
    black = np.zeros((height, width, 3), np.uint8)
    return lambda d: cv2.imwrite(str(d / name), black)


def landmarks(k: int, *args: Any, **kwargs: Any) -> Callable[[Path], None]:
    return lambda d: write_landmarks(d / "landmarks" / f"{k}.lms", *args, **kwargs)


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"

RAW_DAMAGE = [
    (delete("full_body_img"), "expected frames in full_body_video.mp4, full_body/ or"),
    (delete("landmarks"), "expected face rectangles in landmarks/, crop_rectangles.json or"),
    (delete("full_body_img/3.jpg"), "full_body_img/3.jpg: is missing; the others go on to 4.jpg"),
    (delete("full_body_img/4.jpg"), "landmarks: expected as many.*0 to 3, landmarks holds 0 to 4"),
    (delete("landmarks/2.lms"), "landmarks/2.lms: is missing"),
    (delete("landmarks/4.lms"), "landmarks: expected as many.*0 to 4, landmarks holds 0 to 3"),
    (delete("parsing/4.png"), "parsing: expected as many.*parsing holds 0 to 3"),
    (overwrite("full_body_img/0007.jpg", b"x"), "0007.jpg: expected names 0.jpg"),
    (overwrite("full_body_img/2.jpg", b"text"), "2.jpg: expected a JPEG, got a file that starts"),
    (overwrite("full_body_img/2.jpg", b""), "2.jpg: expected a JPEG"),
    (overwrite("full_body_img/2.jpg", LFS_POINTER), "2.jpg: is a Git LFS pointer.*git lfs pull"),
    (overwrite("full_body_img/2.jpg", b"\xff\xd8\xff\xd9"), "2.jpg: expected a whole JPEG"),
    (cut_in_half("full_body_img/0.jpg"), "0.jpg: expected a whole JPEG"),
    (cut_in_half("full_body_img/3.jpg"), "3.jpg: expected a whole JPEG"),
    (image("full_body_img/1.jpg", 80, 60), "1.jpg: expected 160x120 pixels.*got 80x60"),
    (image("parsing/1.png", 80, 60), "parsing/1.png: expected 160x120 pixels.*got 80x60"),
    (overwrite("parsing/1.png", b"text"), "parsing/1.png: expected a PNG, got 4 bytes"),
    (landmarks(2, (10, 10, 50, 0), points=53), "2.lms: expected 110 landmarks.*got 53"),
    (landmarks(2, (50, 10, 50, 0)), r"2.lms: expected a rectangle x1<x2.*got \[50, 10, 50, 10\]"),
    (
        landmarks(2, (200, 10, 250, 0)),
        r"2.lms: expected a rectangle in the 160x120 frame, got \[200",
    ),
    (landmarks(2, ("nan\x20", 10, 50, 0)), "2.lms: line 2: expected 'x y'"),
    (landmarks(2, ("inf\x20", 10, 50, 0)), "2.lms: line 2: expected 'x y'"),
    (overwrite("landmarks/1.lms", b"\xff\xfe\x00"), "1.lms: expected text"),
    (overwrite("landmarks/1.lms", LFS_POINTER), "1.lms: is a Git LFS pointer"),
    (overwrite("landmarks/1.lms", b"1 2 3\n" * 110), "1.lms: line 2: expected 'x y', got '1 2 3'"),
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
    (delete("full_body_video.mp4"), "expected frames in full_body_video.mp4"),
    (delete("crop_rectangles.json"), "expected face rectangles in landmarks/"),
    (overwrite("full_body_video.mp4", b"text"), "full_body_video.mp4: expected a video"),
    (overwrite("full_body_video.mp4", LFS_POINTER), "full_body_video.mp4: is a Git LFS pointer"),
    (cut_in_half("full_body_video.mp4"), "full_body_video.mp4: expected a video"),
    (overwrite("crop_rectangles.json", b"{"), "crop_rectangles.json: expected JSON"),
    (overwrite("crop_rectangles.json", b"[]"), "expected an object of rectangles, got list"),
    (overwrite("crop_rectangles.json", b"{}"), "expected rectangles '0', '1', …, got none"),
    (overwrite("crop_rectangles.json", b'{"0": NaN}'), "expected JSON: NaN is no number"),
    (overwrite("crop_rectangles.json", b'{"0":' * 5000), "expected JSON"),
    (rectangles(lambda e: e.pop("3") and None), "'3': is missing; the others go on to 4"),
    (rectangles(lambda e: e.pop("4") and None), "expected as many.*json holds 0 to 3"),
    (rectangles(lambda e: e.update({"9": e["0"]})), "'5': is missing; the others go on to 9"),
    (rectangles(lambda e: e.update({"1": [1, 2, 3, 4]})), "'1': expected {\"rect\""),
    (rectangles(lambda e: e["1"].update(rect=[1, 2, 3])), "'1': expected {\"rect\""),
    (rectangles(lambda e: e["1"].update(rect=[1, 2, "3", 4])), "'1': expected {\"rect\""),
    (rectangles(lambda e: e["1"].update(rect=[1, 2, True, 4])), "'1': expected {\"rect\""),
    (rectangles(lambda e: e["1"].update(rect=[1, 2, 3.5, 4])), "'1': expected {\"rect\""),
    (rectangles(lambda e: e["1"].update(rect=[1, 2, 10**400, 4])), "'1': expected {\"rect\""),
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


def test_no_folder(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "expected a dataset folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "found none")


def refused(directory: Path, message: str) -> None:
    with pytest.raises(DatasetError, match=message.replace(".jpg", r"\.jpg")) as raised:
        list(read_dataset(directory).read())
    assert str(raised.value).startswith(str(directory))
    assert "\n" not in str(raised.value)
