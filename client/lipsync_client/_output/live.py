"""A live session to a file, a pipe or a network address."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import av
import numpy as np

from .._errors import OutputError
from .._live.frame import LiveFrame
from .encoded_audio import EncodedAudio
from .files import is_pipe
from .formats import CONTAINER_SPECS, STDOUT, ContainerSpec, FormatError
from .h264 import H264Video
from .muxer import Muxer
from .pipe import Pipe

# Each packet is written when it is there: what waits in a buffer comes late, and is lost with the process.
_UNBUFFERED = {"flush_packets": "1"}
_SPECS: dict[str, ContainerSpec] = {
    "ts": CONTAINER_SPECS["ts"],
    "fmp4": CONTAINER_SPECS["fmp4"],
    "mkv": CONTAINER_SPECS["mkv"],
    "flv": ContainerSpec(
        "H264", "flv", {"flvflags": "no_duration_filesize"}, audio_encoder="aac", pipeable=True
    ),
}
CONTAINERS = tuple(_SPECS)
_SUFFIXES = {".ts": "ts", ".mp4": "fmp4", ".m4v": "fmp4", ".mkv": "mkv", ".flv": "flv"}
_SCHEMES = {"rtmp": "flv", "rtmps": "flv", "udp": "ts", "tcp": "ts", "file": "ts"}


def is_url(target: str) -> bool:
    """Return whether an output is a network address, not a file."""
    return "://" in target


def container_for(target: str, name: str | None) -> str:
    """Return the name of the container for an output.

    Args:
        target: a path, "-" or a URL.
        name: of the container that was asked for; None if the target decides.

    Raises:
        FormatError: neither `name` nor the target says it, or the container cannot be written there.
    """
    if name is not None:
        if is_pipe(Path(target)) and not _SPECS[name].pipeable:
            raise FormatError(f"{name} cannot be written to a pipe; ts, fmp4 and flv can")
        return name
    if target == str(STDOUT):
        return "ts"
    known = _SCHEMES if is_url(target) else _SUFFIXES
    key = urlsplit(target).scheme if is_url(target) else Path(target).suffix.lower()
    if key not in known:
        raise FormatError(
            f"{target}: expected {', '.join(s + '://' for s in _SCHEMES)} or a file that ends in"
            f" {', '.join(_SUFFIXES)}; or name the container: {', '.join(CONTAINERS)}"
        )
    return known[key]


class LiveWriter:
    """A container that takes the frames of a session with the output H264.

    Args:
        target: a file, which is written in place, a network address, or a pipe.
        container: one of CONTAINERS.
        rate, channels: of the audio of the frames.

    Attributes:
        frames: number of frames written.

    Raises:
        OutputError: the target cannot be opened.
    """

    def __init__(self, target: Path | str | Pipe, container: str, rate: int, channels: int) -> None:
        spec = _SPECS[container]
        spec = replace(spec, muxer_options={**spec.muxer_options, **_UNBUFFERED})
        self._rate = rate
        self._layout = av.AudioLayout({1: "mono", 2: "stereo"}.get(channels, f"{channels}c"))
        self._audio = EncodedAudio("aac", rate, self._layout.name)
        try:
            self._muxer = Muxer(target, spec, H264Video(), self._audio)
        except (av.FFmpegError, OSError) as e:
            raise OutputError(f"{target} cannot be written: {e.strerror or e}") from e
        self.frames = 0

    def write(self, frame: LiveFrame) -> None:
        """Write a frame; those before the first one with video are left out.

        Raises:
            OutputError: the target takes no more.
        """
        if not self.frames and frame.video is None:
            return
        self.frames += 1
        planes = np.ascontiguousarray(frame.audio.T)
        audio = av.AudioFrame.from_ndarray(planes, format="fltp", layout=self._layout.name)
        audio.sample_rate = self._rate
        self._audio.add_frame(audio)
        self._muxer.write([frame.video])

    def close(self) -> None:
        """Finish the container.

        Raises:
            OutputError: the target takes no more.
        """
        self._muxer.close()

    def abort(self) -> None:
        """Close the target without an end."""
        self._muxer.abort()
