"""What a result can be written as, and which options go with which."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .._errors import InputError
from .._transports.request import Output

STDOUT = Path("-")
# Codecs of sound by what holds them unchanged (FFmpeg's names).
_MP4_SOUND = frozenset({"aac", "mp3", "opus", "ac3", "eac3", "flac", "alac"})
_TS_SOUND = frozenset({"aac", "mp3", "opus", "ac3", "eac3"})


class FormatError(InputError):
    """The parts of a request for an output do not go together; the message says what does."""


@dataclass(frozen=True)
class ContainerSpec:
    """A way to write a result.

    Attributes:
        asks: the server's output it is made of: H264, FRAMES or JPEG.
        muxer: FFmpeg's name of the container; None if it is none.
        options: of the muxer.
        copies: codecs of sound it holds as they are.
        encodes: FFmpeg's encoder for other sound; None without sound.
        delay: how it says that the sound's first samples are not to be played: "edits" (MP4's edit
            list), "header" (Matroska's codec delay), None (it cannot).
        pipes: it can be written to a pipe.
        takes: options that mean something for it.
    """

    asks: Output
    muxer: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    copies: frozenset[str] = frozenset()
    encodes: str | None = None
    delay: str | None = None
    pipes: bool = False
    takes: frozenset[str] = frozenset()


_VIDEO = frozenset({"audio", "crf", "preset", "keyint"})
CONTAINER_SPECS = {
    # The index goes to the front at the end, so that a player may start before it has it all.
    "mp4": ContainerSpec("H264", "mp4", {"movflags": "+faststart"}, _MP4_SOUND, "aac", "edits", takes=_VIDEO),
    # A fragment a keyframe; the header waits for the first, for it says how much sound to skip.
    "fmp4": ContainerSpec(
        "H264", "mp4", {"movflags": "+frag_keyframe+delay_moov+default_base_moof"},
        _MP4_SOUND, "aac", "edits", pipes=True, takes=_VIDEO,
    ),
    "ts": ContainerSpec("H264", "mpegts", {}, _TS_SOUND, "aac", pipes=True, takes=_VIDEO),
    "mkv": ContainerSpec("H264", "matroska", {}, _MP4_SOUND, "aac", "header", takes=_VIDEO),
    "webm": ContainerSpec(
        "FRAMES", "webm", {}, frozenset({"opus"}), "libopus", "header", takes=_VIDEO - {"preset"}
    ),
    "gif": ContainerSpec("JPEG", "gif", takes=frozenset({"fps", "width"})),
    "webp": ContainerSpec("JPEG", "webp", {"loop": "0"}, takes=frozenset({"fps", "width"})),
    "png": ContainerSpec("FRAMES"),
    "jpg": ContainerSpec("JPEG"),
    "bgr24": ContainerSpec("FRAMES", pipes=True),
    "rgb24": ContainerSpec("FRAMES", pipes=True),
}  # fmt: skip
CONTAINERS = tuple(name for name, kind in CONTAINER_SPECS.items() if kind.muxer)
FOLDERS = ("png", "jpg")
RAW = ("bgr24", "rgb24")
_SUFFIXES = {".mp4": "mp4", ".m4v": "mp4", ".ts": "ts", ".mkv": "mkv", ".webm": "webm"} | {
    ".gif": "gif",
    ".webp": "webp",
}
SOUNDS = ("auto", "copy", "aac")


@dataclass(frozen=True)
class OutputFormat:
    """What to write.

    Attributes:
        name: mp4, fmp4 (fragmented), ts, mkv, webm, gif, webp; png or jpg for a folder of pictures;
            bgr24 or rgb24 for raw frames one after the other.
        audio: "auto" keeps the original sound if the container can hold it, else encodes it to AAC (Opus in
            WebM); "copy" insists on the original, "aac" on AAC.
        fps: of a GIF or WebP, 1 to 25.
        width: of a GIF or WebP, pixels; never more than the avatar's own.
    """

    name: str = "mp4"
    audio: str = "auto"
    fps: float = 12.5
    width: int = 480

    def __post_init__(self) -> None:
        if self.name not in CONTAINER_SPECS:
            raise FormatError(f"expected one of {', '.join(CONTAINER_SPECS)}, got {self.name!r}")
        if self.audio not in SOUNDS:
            raise FormatError(f"audio must be one of {', '.join(SOUNDS)}, got {self.audio!r}")
        if self.audio == "aac" and self.kind.encodes == "libopus":
            raise FormatError("WebM holds Opus, not AAC: audio is auto or copy there")
        if not 1 <= self.fps <= 25:
            raise FormatError(f"a preview has 1 to 25 frames a second, got {self.fps:g}")
        if self.width < 16:
            raise FormatError(f"a preview is at least 16 pixels wide, got {self.width}")

    @property
    def kind(self) -> ContainerSpec:
        return CONTAINER_SPECS[self.name]

    @property
    def folder(self) -> bool:
        return self.name in FOLDERS

    @classmethod
    def name_for(cls, path: Path) -> str:
        """The container that a file's suffix names; MP4 without a suffix.

        Raises:
            FormatError: an unknown suffix, or standard output, which has none.
        """
        if path == STDOUT:
            raise FormatError(f"standard output takes {_listed(pipes=True)}: say which")
        name = _SUFFIXES.get(path.suffix.lower()) if path.suffix else "mp4"
        if name is None:
            raise FormatError(
                f"{path}: no container is known by {path.suffix!r}; the suffixes are"
                f" {', '.join(_SUFFIXES)}, or name the container: {', '.join(CONTAINERS)}"
            )
        return name

    def check(self, path: Path, options: set[str]) -> None:
        """Refuse what does not go together.

        Args:
            path: where it shall go, "-" for standard output.
            options: names of those given: audio, crf, preset, keyint, fps, width.

        Raises:
            FormatError: says what is possible.
        """
        if path == STDOUT and not self.kind.pipes:
            raise FormatError(
                f"{self.name} cannot be written to standard output;"
                f" what can is {_listed(pipes=True)}"
            )
        for option in sorted(options - self.kind.takes):
            where = [name for name, kind in CONTAINER_SPECS.items() if option in kind.takes]
            raise FormatError(
                f"{option} means nothing for {self.name}, only for {', '.join(where)}"
            )


def _listed(*, pipes: bool) -> str:
    return ", ".join(name for name, kind in CONTAINER_SPECS.items() if kind.pipes == pipes)
