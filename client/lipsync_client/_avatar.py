"""What the server says of an avatar, before any audio is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import protocol as timeline
from ._errors import Incompatible, UnknownAvatar

API = "1"
# What this client's index arithmetic takes for granted.
_ASSUMED = {
    "lipsync_api": API,
    "fps": str(timeline.FPS),
    "sample_rate": str(timeline.SAMPLE_RATE),
    "mel_hop": str(timeline.HOP),
    "mel_fft": str(2 * timeline.HALF_FFT),
    "mel_window": str(timeline.WINDOW),
}


@dataclass(frozen=True)
class Avatar:
    """An avatar of a server.

    Attributes:
        name: of the Triton model.
        width, height: of its video, pixels.
        frames: in its own loop, before it turns back.
        max_frames: frames one request may ask for.
    """

    name: str
    width: int
    height: int
    frames: int
    max_frames: int

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Avatar:
        """Read a model's config.

        Raises:
            UnknownAvatar: the model is not an avatar.
            Incompatible: the server counts frames or samples in another way than this client.
        """
        name = str(config["name"])
        parameters = {k: v.get("string_value", "") for k, v in config.get("parameters", {}).items()}
        if "lipsync_api" not in parameters:
            raise UnknownAvatar(f"{name} is a model of the server, but not an avatar")
        for key, expected in _ASSUMED.items():
            if parameters.get(key) != expected:
                raise Incompatible(
                    f"avatar {name}: this client expects {key} {expected}, the server has"
                    f" {parameters.get(key)!r}: use a client of the server's version"
                )
        return cls(
            name=name,
            width=int(parameters["width"]),
            height=int(parameters["height"]),
            frames=int(parameters["avatar_frames"]),
            max_frames=int(parameters["max_frames"]),
        )


def is_avatar(config: dict[str, Any]) -> bool:
    return "lipsync_api" in config.get("parameters", {})
