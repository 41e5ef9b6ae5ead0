"""Making a raw dataset folder of a recording.

Everything is written into a scratch folder beside the new one, which is renamed at the end: whenever this
is interrupted, there is either no dataset or a whole one.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from lipsync_preprocessing.contract import FRAME_RATE
from lipsync_preprocessing.dataset.types import Image
from lipsync_preprocessing.errors import RecordingError
from lipsync_preprocessing.recording.audio import SAMPLE_RATE, Samples
from lipsync_preprocessing.recording.findings import (
    SHORTEST_S,
    Finding,
    find_all,
    lost_too_long,
)
from lipsync_preprocessing.recording.report import write_report
from lipsync_preprocessing.recording.rest import RestLoop, find_rest
from lipsync_preprocessing.recording.square import landmark_lines
from lipsync_preprocessing.recording.track import Track, levels
from lipsync_preprocessing.recording.tracker import FaceTracker, Sighting
from lipsync_preprocessing.recording.video import Part, Recording

Report = Callable[[str, int, int], None]

FRAMES, LANDMARKS, AUDIO = "full_body_img", "landmarks", "audio.wav"
REPORT, MEASUREMENTS, REST = "report.html", "measurements.json", "rest"
_JPEG_QUALITY = 95
_SEEN_LOST = 3  # times that an error names


@dataclass(frozen=True)
class RecordingOptions:
    """Options for a recording.

    Attributes:
        part: the seconds of it that are used.
        height: of the frames, pixels; larger ones are scaled down. None keeps their size.
    """

    part: Part = field(default_factory=Part)
    height: int | None = None


@dataclass(frozen=True)
class MadeDataset:
    """A dataset folder that was written.

    Attributes:
        frames: their number.
        size: their width and height, pixels.
        found: part of the frames in which the face was found.
        findings: the warnings.
        rest: the rest loop, which lies in `rest/` as a dataset of its own.
    """

    directory: Path
    frames: int
    size: tuple[int, int]
    found: float
    findings: list[Finding]
    rest: RestLoop | None


def make_dataset(
    video: Path,
    directory: Path,
    models: Path,
    options: RecordingOptions | None = None,
    report: Report | None = None,
) -> MadeDataset:
    """Write the dataset folder of a recording.

    Args:
        video: any file with video and audio that FFmpeg reads.
        directory: the new folder; it must not exist.
        models: the folder of the face models.
        options: what to use of the recording.
        report: called with progress.

    Raises:
        RecordingError: the recording cannot be used; nothing was written.
    """
    options, report = options or RecordingOptions(), report or (lambda _what, _done, _total: None)
    if directory.exists():
        raise RecordingError(f"{directory}: exists already; remove it, or choose another folder")
    recording = Recording(video, options.part, options.height)
    with _scratch_beside(directory) as scratch:
        samples = recording.audio()
        sightings, size = _read_frames(recording, scratch / FRAMES, FaceTracker(models), report)
        seconds = len(samples) / SAMPLE_RATE
        level = levels(samples, len(sightings))
        track = Track(size, sightings, level, seconds, recording.held)
        _check(video, track, options.part.start_s)
        findings, rest = find_all(track, options.part.start_s), find_rest(track)
        _write_landmarks(scratch / LANDMARKS, track)
        _write_audio(scratch / AUDIO, samples)
        _write_measurements(scratch / MEASUREMENTS, track, rest, findings)
        if rest is not None:
            _write_rest(scratch, rest)
        write_report(scratch / REPORT, video.name, scratch / FRAMES, track, findings, rest)
        os.rename(scratch, directory)  # noqa: PTH104  (Path.rename would replace an empty folder, too)
    return MadeDataset(directory, len(track), size, float(track.found.mean()), findings, rest)


@contextmanager
def _scratch_beside(directory: Path) -> Iterator[Path]:
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    except OSError as error:
        raise RecordingError(f"{directory}: cannot be written: {error.strerror}") from error
    try:
        scratch.chmod(0o755)
        yield scratch
    except OSError as error:
        raise RecordingError(
            f"{error.filename or directory}: cannot be written: {error.strerror or error}"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _read_frames(
    recording: Recording, folder: Path, tracker: FaceTracker, report: Report
) -> tuple[list[Sighting], tuple[int, int]]:
    """Write every frame as a JPEG, and return what it shows; the size is that of all frames."""
    folder.mkdir()
    sightings: list[Sighting] = []
    size = 0, 0
    for k, image in enumerate(recording.frames()):
        size = image.shape[1], image.shape[0]
        _write_jpeg(folder / f"{k}.jpg", image)
        sightings.append(tracker.see(image))
        report("finding the face", k + 1, max(recording.estimate, k + 1))
    return sightings, size


def _write_jpeg(path: Path, image: Image) -> None:
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    path.write_bytes(bytes(data))


def _check(video: Path, track: Track, offset_s: float) -> None:
    seconds = len(track) / FRAME_RATE
    if seconds < SHORTEST_S:
        raise RecordingError(
            f"{video}: expected at least {SHORTEST_S:g} s of video, got {seconds:.1f} s"
        )
    if not track.found.any():
        raise RecordingError(f"{video}: expected a face, found none in {seconds:.1f} s")
    lost = lost_too_long(track, offset_s)
    if lost:
        times = ", ".join(f"second {a:.1f} to {b:.1f}" for a, b in lost[:_SEEN_LOST])
        more = f" and {len(lost) - _SEEN_LOST} more times" if len(lost) > _SEEN_LOST else ""
        raise RecordingError(
            f"{video}: expected the face in every frame, it is lost in {times}{more}. Choose a part without"
            " that with --start and --end, or film again"
        )


def _write_landmarks(folder: Path, track: Track) -> None:
    folder.mkdir()
    last = track.points[int(np.flatnonzero(track.found)[0])]
    for k, (points, rect) in enumerate(zip(track.points, track.rects, strict=True)):
        last = points if track.found[k] else last
        (folder / f"{k}.lms").write_text(landmark_lines(last, rect))


def _write_audio(path: Path, samples: Samples) -> None:
    values = np.clip(np.rint(samples * 32767), -32768, 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(values.tobytes())


def _write_measurements(
    path: Path, track: Track, rest: RestLoop | None, findings: list[Finding]
) -> None:
    content = {
        "mouth_centre": track.mouth_centre(),
        "opening": [round(float(v), 4) for v in track.opening],
        "closed": [bool(v) for v in track.closed],
        "rest": None if rest is None else [rest.first, rest.last],
        "warnings": [str(finding) for finding in findings],
    }
    path.write_text(json.dumps(content))


def _write_rest(scratch: Path, rest: RestLoop) -> None:
    """Write the loop as a dataset folder of its own; its files are links to those of the whole."""
    for name, suffix in ((FRAMES, ".jpg"), (LANDMARKS, ".lms")):
        (scratch / REST / name).mkdir(parents=True)
        for new, old in enumerate(range(rest.first, rest.last + 1)):
            source = scratch / name / f"{old}{suffix}"
            try:
                os.link(source, scratch / REST / name / f"{new}{suffix}")
            except OSError:  # a file system without links
                shutil.copyfile(source, scratch / REST / name / f"{new}{suffix}")
