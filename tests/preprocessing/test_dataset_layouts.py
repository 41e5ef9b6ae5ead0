"""The layouts of published datasets, and the option that chooses where a folder can be read in two ways."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lipsync_preprocessing.dataset import DatasetOptions, read_dataset
from lipsync_preprocessing.errors import DatasetError
from support.toy_datasets import (
    COUNT,
    make_frames,
    make_packaged,
    make_raw,
    rect_of,
    write_jpegs,
    write_landmarks,
)

RECTS = [rect_of(k) for k in range(COUNT)]


def decoded(path: Path) -> list[Any]:
    """Return a video's frames as OpenCV gives them, which the reference uses."""
    capture = cv2.VideoCapture(str(path))
    frames: list[NDArray[np.uint8]] = []
    while True:
        found, frame = capture.read()
        if not found:
            capture.release()
            return frames
        frames.append(frame)


def check(directory: Path, expected: list[Any], **options: Any) -> Any:
    """Assert that a folder gives these frames and the toy's rectangles; return the dataset."""
    dataset = read_dataset(directory, DatasetOptions(**options))
    assert dataset.rects == RECTS
    frames = list(dataset.read())
    assert len(frames) == len(expected)
    for frame, image in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(frame.image, image)
    return dataset


@pytest.mark.parametrize("cache", [False, True])
def test_a_package_of_videos(cache: bool, tmp_path: Path) -> None:
    """Without the derived crops and inputs, and with the rectangles in cache/."""
    directory = make_packaged(tmp_path / "d", videos=True, cache=cache)
    dataset = check(directory, decoded(directory / "full_body_video.mp4"))
    coding = dataset.coding()
    assert coding is not None
    assert (coding.codec, coding.groups) == ("mpeg4", (0, COUNT))


@pytest.mark.parametrize("name", ["full_body", "full_body_img"])
@pytest.mark.parametrize("first", [0, 1])
def test_a_package_of_jpegs(name: str, first: int, tmp_path: Path) -> None:
    """FFmpeg numbers the frames that it extracts from 1, and the rectangles count from 0."""
    directory = make_packaged(tmp_path / "d", videos=False, name=name, first=first, cache=True)
    files = [directory / name / f"{k + first}.jpg" for k in range(COUNT)]
    dataset = check(directory, [cv2.imread(str(f)) for f in files])
    assert [f.data for f in dataset.read()] == [f.read_bytes() for f in files]


def test_landmarks_from_0_and_frames_from_1(tmp_path: Path) -> None:
    directory = make_raw(tmp_path / "d", masks=True)
    plain = [f.mask for f in read_dataset(directory).read()]
    shutil.rmtree(directory / "full_body_img")
    write_jpegs(directory / "full_body_img", make_frames(), first=1)
    files = [directory / f"full_body_img/{k + 1}.jpg" for k in range(COUNT)]
    dataset = check(directory, [cv2.imread(str(f)) for f in files])
    for frame, mask in zip(dataset.read(), plain, strict=True):
        assert frame.mask is not None
        assert mask is not None
        np.testing.assert_array_equal(frame.mask, mask)


def published(directory: Path) -> Path:
    """Write all that the public avatar's folder holds: the video and frames extracted from it, twice."""
    make_packaged(directory, videos=True, cache=True)
    write_jpegs(directory / "full_body_img", make_frames(), first=1)
    (directory / "landmarks").mkdir()
    for k in range(COUNT):
        write_landmarks(directory / f"landmarks/{k}.lms", rect_of(k))
    (directory / "crops_328_video.mp4").write_bytes(b"not needed")
    return directory


def test_everything_at_once_takes_the_video(tmp_path: Path) -> None:
    directory = published(tmp_path / "d")
    check(directory, decoded(directory / "full_body_video.mp4"))
    files = [directory / f"full_body_img/{k + 1}.jpg" for k in range(COUNT)]
    check(directory, [cv2.imread(str(f)) for f in files], frames="full_body_img")


def test_different_rectangles_name_both_and_the_option(tmp_path: Path) -> None:
    directory = published(tmp_path / "d")
    write_landmarks(directory / "landmarks/3.lms", (41, 26, 100, 0))
    with pytest.raises(
        DatasetError,
        match=r"landmarks and cache/crop_rectangles.json give different face rectangles"
        r" \(\[41, 26, 100, 85\] against \[43, 26, 107, 90\] for frame 3\); choose with"
        r" --rectangles landmarks or --rectangles cache/crop_rectangles.json",
    ):
        read_dataset(directory)
    check(
        directory,
        decoded(directory / "full_body_video.mp4"),
        rectangles="cache/crop_rectangles.json",
    )


def test_other_landmarks_beside_good_rectangles(tmp_path: Path) -> None:
    directory = published(tmp_path / "d")
    write_landmarks(directory / "landmarks/3.lms", rect_of(3), points=68)
    with pytest.raises(DatasetError, match=r"got 68.*To use only one of them: --rectangles landm"):
        read_dataset(directory)


def test_a_video_and_a_folder_of_different_length(tmp_path: Path) -> None:
    directory = published(tmp_path / "d")
    (directory / f"full_body_img/{COUNT}.jpg").unlink()
    with pytest.raises(DatasetError, match=r"full_body_video.mp4 \(5\) as in full_body_img \(4\)"):
        read_dataset(directory)
    check(
        directory,
        decoded(directory / "full_body_video.mp4"),
        frames="full_body_video.mp4",
    )


def test_counts_that_differ_name_both_readings(tmp_path: Path) -> None:
    directory = make_raw(tmp_path / "d")
    (directory / "full_body_img/0.jpg").unlink()  # frames 1 to 4, landmarks 0 to 4
    with pytest.raises(DatasetError, match=r"holds 1 to 4, landmarks holds 0 to 4. Give --pairing"):
        read_dataset(directory)
    assert read_dataset(directory, DatasetOptions(pairing="number")).rects == RECTS[1:]
    assert read_dataset(directory, DatasetOptions(pairing="order")).rects == RECTS[:-1]


def test_a_video_at_another_rate_is_refused_or_resampled(tmp_path: Path) -> None:
    directory = make_packaged(tmp_path / "d", videos=True, fps=30, count=12)
    images = decoded(directory / "full_body_video.mp4")
    with pytest.raises(DatasetError, match=r"got 30. Give --frame-rate 30 to resample it, or --fr"):
        read_dataset(directory)
    shown = [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]  # at 0, 0.04, … 0.36 s
    dataset = read_dataset(directory, DatasetOptions(frame_rate=Fraction(30)))
    assert dataset.rects == [rect_of(k) for k in shown]
    for frame, k in zip(dataset.read(), shown, strict=True):
        np.testing.assert_array_equal(frame.image, images[k])
    taken = read_dataset(directory, DatasetOptions(frame_rate=Fraction(25)))
    assert taken.rects == [rect_of(k) for k in range(12)]


def test_jpegs_at_another_rate(tmp_path: Path) -> None:
    directory = make_packaged(tmp_path / "d", videos=False, count=4)
    dataset = read_dataset(directory, DatasetOptions(frame_rate=Fraction(50)))
    assert dataset.rects == [rect_of(0), rect_of(2)]
    dataset = read_dataset(directory, DatasetOptions(frame_rate=Fraction(25, 2)))
    assert dataset.rects == [rect_of(k // 2) for k in range(8)]
    assert len(list(dataset.read())) == 8
    with pytest.raises(DatasetError, match="expected 1 to 240 frames per second, got 0"):
        read_dataset(directory, DatasetOptions(frame_rate=Fraction(0)))
