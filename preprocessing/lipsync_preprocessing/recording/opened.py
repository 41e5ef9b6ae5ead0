"""Media files that are opened for reading."""

from __future__ import annotations

from pathlib import Path

import av
import av.error

from lipsync_preprocessing.errors import RecordingError, one_line


class Opened:
    """A media file that is open; FFmpeg's errors, also those of its use, are RecordingErrors."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> av.container.InputContainer:
        try:
            # Only files: a playlist could name addresses.
            options = {"protocol_whitelist": "file"}
            self._container = av.open(f"file:{self._path}", options=options)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._error(error) from error
        return self._container

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._container.close()
        if isinstance(error, av.error.FFmpegError):
            raise self._error(error) from error

    def _error(self, error: Exception) -> RecordingError:
        return RecordingError(
            f"{self._path}: expected a video or audio file, but it cannot be decoded: {one_line(error)}"
        )
