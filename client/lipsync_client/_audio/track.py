"""One audio track of a file, opened for reading."""

from __future__ import annotations

import re
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition

from .._errors import InputError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # as a Path prints it, with one slash
_PLAYLISTS = ("hls", "concat", "dash")  # they name other files


class Track:
    """One audio track of an open file.

    Args:
        path: the file.
        number: the track, counted from 1; None for the first one that is marked as default, or the first.

    Attributes:
        container: the open file.
        stream: the track's stream.
        description: the track's number and properties if the file has several tracks, else None.

    Raises:
        InputError: the file is missing, cannot be read as audio, or has no such track.
    """

    def __init__(self, path: Path, number: int | None = None) -> None:
        self.container = _open(path)
        try:
            tracks = self.container.streams.audio
            if not tracks:
                raise InputError(f"{path}: expected an audio track, but this file has none")
            if number is None:
                marked = [n for n, s in enumerate(tracks, 1) if s.disposition & Disposition.default]
                number = marked[0] if marked else 1
            if not 1 <= number <= len(tracks):
                raise InputError(
                    f"{path} has the audio tracks 1 to {len(tracks)}; there is no track {number}"
                )
            self.stream = tracks[number - 1]
            if not self.stream.codec_context.sample_rate:
                raise InputError(f"{path}: the audio has no sample rate")
        except InputError:
            self.container.close()
            raise
        context = self.stream.codec_context
        if context.codec.canonical_name == "flac":  # each packet has a checksum
            context.options = {"err_detect": "crccheck+explode"}
        self.description = None
        if len(tracks) > 1:
            language = f", language {self.stream.language}" if self.stream.language else ""
            self.description = (
                f"audio track {number} of {len(tracks)} ({context.codec.canonical_name},"
                f" {layout_name(context)}{language})"
            )

    def close(self) -> None:
        """Close the file."""
        self.container.close()


def is_fifo(path: Path) -> bool:
    """Return whether a path is a FIFO, which can be read only once."""
    try:
        return path.is_fifo()
    except OSError:  # the name is too long, for example
        return False


def layout_name(audio: av.AudioFrame | av.AudioCodecContext) -> str:
    """Return the name of a channel layout; the usual one if no more than a number is known."""
    return {1: "mono", 2: "stereo"}.get(len(audio.layout.channels), audio.layout.name)


def _open(path: Path) -> InputContainer:
    try:
        if not path.exists():
            if _URL.match(str(path)):
                raise InputError(f"{path} is a URL, which is not read: download the file first")
            raise InputError(f"{path}: no such file")
        if path.is_dir():
            raise InputError(f"{path}: expected an audio or video file, got a directory")
        # The prefix keeps FFmpeg from reading a name such as "a:b.wav" as the address of another protocol.
        container = av.open(f"file:{path}", "r")
    except (av.FFmpegError, OSError, ValueError) as e:
        reason = getattr(e, "strerror", None) or e
        raise InputError(
            f"{path}: expected an audio or video file, but it cannot be read as one ({reason})"
        ) from e
    if container.format.name in _PLAYLISTS:
        container.close()
        raise InputError(f"{path}: expected an audio or video file, got a playlist")
    return container
