"""A live session to a file, a pipe or a network address, with its sound."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import av
import numpy as np

from .._live.session import LiveFrame
from .encoded_audio import EncodedAudio
from .files import is_pipe
from .formats import CONTAINER_SPECS, STDOUT, ContainerSpec, FormatError
from .h264 import H264Video
from .muxer import Muxer
from .pipe import Pipe

# Each packet goes out when it is there; what waits in a buffer comes late.
_AT_ONCE = {"flush_packets": "1"}
_KINDS: dict[str, ContainerSpec] = {
    "ts": CONTAINER_SPECS["ts"],
    "fmp4": CONTAINER_SPECS["fmp4"],
    "mkv": CONTAINER_SPECS["mkv"],
    "flv": ContainerSpec(
        "H264", "flv", {"flvflags": "no_duration_filesize"}, audio_encoder="aac", pipeable=True
    ),
}
CONTAINERS = tuple(_KINDS)
_SUFFIXES = {".ts": "ts", ".mp4": "fmp4", ".m4v": "fmp4", ".mkv": "mkv", ".flv": "flv"}
_SCHEMES = {"rtmp": "flv", "rtmps": "flv", "udp": "ts", "tcp": "ts", "file": "ts"}


def is_url(target: str) -> bool:
    """Return whether an output is a network address, not a file."""
    return "://" in target


def container_for(target: str, asked: str | None) -> str:
    """The container an output gets.

    Raises:
        FormatError: neither the option nor the output's name says it, or it cannot be written there.
    """
    if asked is not None:
        if is_pipe(Path(target)) and not _KINDS[asked].pipeable:
            raise FormatError(f"{asked} cannot be written to a pipe; ts, fmp4 and flv can")
        return asked
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
    """Frames of a session with H.264 pictures into a container.

    Args:
        target: a file, written in place, a network address, or a pipe.
        container: one of CONTAINERS.
        rate, channels: of the session's sound.
    """

    def __init__(self, target: Path | str | Pipe, container: str, rate: int, channels: int) -> None:
        kind = _KINDS[container]
        self._rate = rate
        self._layout = av.AudioLayout({1: "mono", 2: "stereo"}.get(channels, f"{channels}c"))
        self._sound = EncodedAudio("aac", rate, self._layout.name)
        kind = replace(kind, muxer_options={**kind.muxer_options, **_AT_ONCE})
        self._muxer = Muxer(target, kind, H264Video(), self._sound)
        self._begun = False

    def write(self, frame: LiveFrame) -> None:
        """Add a frame; those before the first picture are left out, sound and all."""
        if not (self._begun or frame.video is not None):
            return
        self._begun = True
        planes = np.ascontiguousarray(frame.audio.T)
        sound = av.AudioFrame.from_ndarray(planes, format="fltp", layout=self._layout.name)
        sound.sample_rate = self._rate
        self._sound.add_frame(sound)
        self._muxer.write([frame.video])

    def close(self) -> None:
        """Finish."""
        self._muxer.close()

    def abort(self) -> None:
        """Let go; the result will be thrown away."""
        self._muxer.abort()
