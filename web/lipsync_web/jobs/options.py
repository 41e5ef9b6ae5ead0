"""The options of a job: the output format and the quality, as `lipsync-client render` has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from lipsync_client import FormatError, InputError, OutputFormat, RenderOptions
from lipsync_client._output.formats import AUDIO_MODES, CONTAINERS, AudioMode, FormatName

PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow",
)  # fmt: skip
MEDIA_TYPES: dict[FormatName, str] = {
    "mp4": "video/mp4", "fmp4": "video/mp4", "ts": "video/mp2t", "mkv": "video/x-matroska",
    "webm": "video/webm", "gif": "image/gif", "webp": "image/webp",
}  # fmt: skip
assert set(MEDIA_TYPES) == set(CONTAINERS)


@dataclass(frozen=True)
class JobOptions:
    """The options of a job; None leaves the choice to the server.

    Attributes:
        format: the container; those of `lipsync-client render --container`.
        crf: video quality, lower is better: 0 to 51 for H.264, 0 to 63 for WebM.
        preset: x264's preset.
        keyint: most frames from one keyframe to the next.
        audio_mode: "auto", "copy" or "aac", as OutputFormat.audio.
        track: number of the audio track, from 1.
        strict: refuse audio of which a part cannot be decoded; otherwise silence takes its place.
        fps, width: of a GIF or WebP.
    """

    format: FormatName = "mp4"
    crf: int | None = None
    preset: str | None = None
    keyint: int | None = None
    audio_mode: AudioMode = "auto"
    track: int | None = None
    strict: bool = True
    fps: float = OutputFormat.fps
    width: int = OutputFormat.width

    @property
    def output_format(self) -> OutputFormat:
        """The output format.

        Raises:
            FormatError: an option does not apply to the format.
        """
        output_format = OutputFormat(self.format, self.audio_mode, self.fps, self.width)
        output_format.check_encoder_options(self._encoder_options)
        return output_format

    @property
    def render_options(self) -> RenderOptions:
        """The options of the render.

        Raises:
            InputError: one is out of range.
        """
        return RenderOptions(
            encoder_options=self._encoder_options, audio_track=self.track, strict=self.strict
        )

    @property
    def _encoder_options(self) -> dict[str, int | str]:
        chosen = {"crf": self.crf, "preset": self.preset, "keyint": self.keyint}
        return {name: value for name, value in chosen.items() if value is not None}

    @property
    def suffix(self) -> str:
        """The suffix of the video's file name."""
        return ".mp4" if self.format == "fmp4" else f".{self.format}"

    def to_json(self) -> dict[str, Any]:
        """Return the options that differ from their defaults."""
        return {k: v for k, v in asdict(self).items() if v != getattr(JobOptions, k)}


NAMES = tuple(field.name for field in fields(JobOptions))


def parse_options(values: Mapping[str, object]) -> JobOptions:
    """Return the options of a request: texts of a query or a form, or values of JSON.

    Raises:
        InputError: an option is unknown or has a value that is none for it.
    """
    unknown = sorted(set(values) - set(NAMES))
    if unknown:
        raise InputError(f"there is no option {unknown[0]!r}; expected {', '.join(NAMES)}")
    options = JobOptions(**{name: _PARSERS[name](name, value) for name, value in values.items()})
    _ = options.output_format, options.render_options
    return options


def _whole(low: int, high: int) -> Callable[[str, object], int]:
    def parse(name: str, value: object) -> int:
        try:
            if isinstance(value, bool) or (isinstance(value, float) and value % 1):
                raise ValueError
            number = int(value) if isinstance(value, int | float) else int(str(value))
            if low <= number <= high:
                return number
        except (ValueError, OverflowError):
            pass
        raise InputError(f"{name} must be an integer from {low} to {high}, got {value!r:.80}")

    return parse


def _fps(name: str, value: object) -> float:
    try:
        if not isinstance(value, bool) and 1 <= (number := float(str(value))) <= 25:
            return number
    except ValueError:
        pass
    raise InputError(f"{name} must be a number from 1 to 25, got {value!r:.80}")


def _flag(name: str, value: object) -> bool:
    if value in (True, "true"):
        return True
    if value in (False, "false"):
        return False
    raise InputError(f"{name} must be true or false, got {value!r:.80}")


def _one_of(choices: tuple[str, ...]) -> Callable[[str, object], str]:
    def parse(name: str, value: object) -> str:
        if isinstance(value, str) and value in choices:
            return value
        raise FormatError(f"{name} must be one of {', '.join(choices)}; got {value!r:.80}")

    return parse


_PARSERS: dict[str, Callable[[str, object], Any]] = {
    "format": _one_of(CONTAINERS),
    "crf": _whole(0, 63),
    "preset": _one_of(PRESETS),
    "keyint": _whole(1, 1000),
    "audio_mode": _one_of(AUDIO_MODES),
    "track": _whole(1, 1000),
    "strict": _flag,
    "fps": _fps,
    "width": _whole(16, 7680),
}
