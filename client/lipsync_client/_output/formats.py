"""Output formats, and the options that each of them has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from .._errors import InputError
from .._transports.request import Output

FormatName = Literal[
    "mp4", "fmp4", "ts", "mkv", "webm", "gif", "webp", "png", "jpg", "bgr24", "rgb24"
]
AudioMode = Literal["auto", "copy", "aac"]

STDOUT = Path("-")
# Audio codecs that a container can hold unchanged (FFmpeg's names).
_MP4_AUDIO = frozenset({"aac", "mp3", "opus", "ac3", "eac3", "flac", "alac"})
_TS_AUDIO = frozenset({"aac", "mp3", "opus", "ac3", "eac3"})


class FormatError(InputError):
    """The output format, the path and the options do not go together; the message says what does."""


@dataclass(frozen=True)
class ContainerSpec:
    """The properties of an output format.

    Attributes:
        server_output: the server's output that it is made from.
        muxer: FFmpeg's name of the container; None if the format is no container.
        muxer_options: options of the muxer.
        audio_codecs: audio codecs that the container holds unchanged.
        audio_encoder: FFmpeg's encoder for other audio; None if the format has no audio.
        delay: where the container stores that the first audio samples are not to be played: "edits"
            (MP4's edit list), "header" (Matroska's codec delay), None (nowhere).
        pipeable: whether the format can be written to a pipe.
        options: names of the options of OutputFormat that apply to the format.
        encoder_options: names of the encoder options that apply to it.
        max_crf: the largest value of the encoder option `crf`.
    """

    server_output: Output
    muxer: str | None = None
    muxer_options: Mapping[str, str] = field(default_factory=dict)
    audio_codecs: frozenset[str] = frozenset()
    audio_encoder: Literal["aac", "libopus"] | None = None
    delay: Literal["edits", "header"] | None = None
    pipeable: bool = False
    options: frozenset[str] = frozenset()
    encoder_options: frozenset[str] = frozenset()
    max_crf: int = 51


def _h264(
    muxer: str,
    audio_codecs: frozenset[str],
    delay: Literal["edits", "header"] | None = None,
    muxer_options: Mapping[str, str] | None = None,
    *,
    pipeable: bool = False,
) -> ContainerSpec:
    return ContainerSpec(
        "H264", muxer, muxer_options or {}, audio_codecs, "aac", delay, pipeable,
        frozenset({"audio"}), frozenset({"crf", "preset", "keyint"}),
    )  # fmt: skip


def _preview(muxer: str, muxer_options: Mapping[str, str]) -> ContainerSpec:
    return ContainerSpec(
        "JPEG", muxer, muxer_options,
        options=frozenset({"fps", "width"}), encoder_options=frozenset({"jpeg_quality"}),
    )  # fmt: skip


CONTAINER_SPECS: dict[FormatName, ContainerSpec] = {
    # The index moves to the front when the file is complete, so that a player can start early.
    "mp4": _h264("mp4", _MP4_AUDIO, "edits", {"movflags": "+faststart"}),
    # Each keyframe begins a fragment. The header is written with the first fragment, because it says
    # how much audio is to be skipped.
    "fmp4": _h264(
        "mp4", _MP4_AUDIO, "edits", {"movflags": "+frag_keyframe+delay_moov+default_base_moof"},
        pipeable=True,
    ),
    "ts": _h264("mpegts", _TS_AUDIO, pipeable=True),
    "mkv": _h264("matroska", _MP4_AUDIO, "header"),
    "webm": ContainerSpec(
        "FRAMES", "webm", {}, frozenset({"opus"}), "libopus", "header",
        options=frozenset({"audio"}), encoder_options=frozenset({"crf", "keyint"}), max_crf=63,
    ),
    "gif": _preview("gif", {}),
    "webp": _preview("webp", {"loop": "0"}),
    "png": ContainerSpec("FRAMES"),
    "jpg": ContainerSpec("JPEG", encoder_options=frozenset({"jpeg_quality"})),
    "bgr24": ContainerSpec("FRAMES", pipeable=True),
    "rgb24": ContainerSpec("FRAMES", pipeable=True),
}  # fmt: skip
CONTAINERS = tuple(name for name, spec in CONTAINER_SPECS.items() if spec.muxer)
FOLDERS = ("png", "jpg")
RAW = ("bgr24", "rgb24")
AUDIO_MODES: tuple[AudioMode, ...] = get_args(AudioMode)
_SUFFIXES: dict[str, FormatName] = {
    ".mp4": "mp4", ".m4v": "mp4", ".ts": "ts", ".mkv": "mkv", ".webm": "webm",
    ".gif": "gif", ".webp": "webp",
}  # fmt: skip


@dataclass(frozen=True)
class OutputFormat:
    """The container or image format of a result.

    Attributes:
        name: mp4, fmp4 (fragmented MP4), ts, mkv, webm, gif, webp; png or jpg for a folder of images;
            bgr24 or rgb24 for raw frames one after the other.
        audio: "auto" keeps the clip's own audio packets where the container can hold them and browsers
            play them, and encodes the audio otherwise, to AAC (to Opus in WebM); "copy" keeps the
            packets or fails; "aac" always encodes to AAC.
        fps: frames per second of a GIF or WebP, 1 to 25.
        width: width of a GIF or WebP in pixels; it is never larger than the avatar's own.

    Raises:
        FormatError: a value is out of range, or an option does not apply to the format.
    """

    name: FormatName = "mp4"
    audio: AudioMode = "auto"
    fps: float = 12.5
    width: int = 480

    def __post_init__(self) -> None:
        if self.name not in CONTAINER_SPECS:
            raise FormatError(
                f"the output format must be one of {', '.join(CONTAINER_SPECS)}; got {self.name!r}"
            )
        for option in ("audio", "fps", "width"):
            if getattr(self, option) != getattr(OutputFormat, option):
                self._require(option, self.spec.options)
        if self.audio not in AUDIO_MODES:
            raise FormatError(f"audio must be one of {', '.join(AUDIO_MODES)}; got {self.audio!r}")
        if self.audio == "aac" and self.spec.audio_encoder == "libopus":
            raise FormatError("WebM holds Opus and no AAC: audio must be auto or copy")
        if not 1 <= self.fps <= 25:
            raise FormatError(f"fps must be between 1 and 25; got {self.fps:g}")
        if self.width < 16:
            raise FormatError(f"width must be 16 pixels or more; got {self.width}")

    @property
    def spec(self) -> ContainerSpec:
        """The properties of the format."""
        return CONTAINER_SPECS[self.name]

    @property
    def is_folder(self) -> bool:
        """Return whether the result is a folder of images."""
        return self.name in FOLDERS

    @classmethod
    def name_for(cls, path: Path) -> FormatName:
        """Return the name of the format that a path's suffix names; "mp4" for a path without one.

        Raises:
            FormatError: the suffix is unknown, or the path is standard output.
        """
        if path == STDOUT:
            raise FormatError(f"standard output has no suffix: name the format, {_pipeable()}")
        name = _SUFFIXES.get(path.suffix.lower()) if path.suffix else "mp4"
        if name is None:
            raise FormatError(
                f"{path}: the suffix {path.suffix!r} names no output format. Use one of"
                f" {', '.join(_SUFFIXES)}, or name the container: {', '.join(CONTAINERS)}"
            )
        return name

    def check_encoder_options(self, options: Mapping[str, object]) -> None:
        """Raise FormatError if an encoder option does not apply to the format or is out of range."""
        for option in sorted(options):
            self._require(option, self.spec.encoder_options)
        crf = options.get("crf", 0)
        if not isinstance(crf, int) or not 0 <= crf <= self.spec.max_crf:
            raise FormatError(
                f"crf must be an integer from 0 to {self.spec.max_crf} for {self.name}; got {crf!r}"
            )

    def check_pipeable(self, name: str) -> None:
        """Raise FormatError if the format cannot be written to the pipe called `name`."""
        if not self.spec.pipeable:
            raise FormatError(
                f"{self.name} cannot be written to {name}; the formats that can are {_pipeable()}"
            )

    def _require(self, option: str, options: frozenset[str]) -> None:
        if option in options:
            return
        names = [n for n, s in CONTAINER_SPECS.items() if option in s.options | s.encoder_options]
        if not names:
            known = {o for s in CONTAINER_SPECS.values() for o in s.encoder_options}
            raise FormatError(
                f"{option!r} is no encoder option; expected {', '.join(sorted(known))}"
            )
        raise FormatError(f"{option} does not apply to {self.name}, only to {', '.join(names)}")


def _pipeable() -> str:
    return ", ".join(name for name, spec in CONTAINER_SPECS.items() if spec.pipeable)
