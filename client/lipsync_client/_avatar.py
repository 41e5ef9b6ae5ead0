"""The properties of an avatar that a server publishes, read before any audio is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import protocol
from ._errors import Incompatible, UnknownAvatar
from ._transports.request import Output

API = "1"
# The values that this client's arithmetic is made for.
_EXPECTED = {
    "lipsync_api": API,
    "fps": str(protocol.FPS),
    "sample_rate": str(protocol.SAMPLE_RATE),
    "mel_hop": str(protocol.HOP),
    "mel_fft": str(2 * protocol.HALF_FFT),
    "mel_window": str(protocol.WINDOW),
}

_MAX_CHUNK_BYTES = (
    128 * 2**20
)  # several chunks are in flight, and each passes through several processes


@dataclass(frozen=True)
class Avatar:
    """An avatar of a server.

    Attributes:
        name: of its Triton model.
        width, height: of its video, in pixels.
        frames: number of frames in its loop, which is played forwards and backwards.
        max_frames: number of frames that one request may ask for.
        live_sessions: number of live sessions that one server carries with its profile; None if the server
            does not tell.
    """

    name: str
    width: int
    height: int
    frames: int
    max_frames: int
    live_sessions: int | None = None

    def chunk_size(self, output: Output) -> int:
        """Return the number of frames in a request, if the caller chooses none.

        It is the server's limit, but for raw frames at most 128 MiB and at least one frame.
        """
        raw = {"FRAMES": self.width * self.height * 3, "I420": self.width * self.height * 3 // 2}
        size = raw.get(output)
        return (
            self.max_frames
            if size is None
            else max(1, min(self.max_frames, _MAX_CHUNK_BYTES // size))
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Avatar:
        """Return the avatar that a model's config describes.

        Args:
            config: Triton's, as a JSON object.

        Raises:
            UnknownAvatar: the model is not an avatar.
            Incompatible: the server counts frames or samples in another way than this client.
        """
        name = str(config["name"])
        if not is_avatar(config):
            raise UnknownAvatar(f"{name} is a model of the server, but not an avatar")
        parameters = {k: v.get("string_value", "") for k, v in config["parameters"].items()}
        for key, expected in _EXPECTED.items():
            if parameters.get(key) != expected:
                raise Incompatible(
                    f"avatar {name}: this client expects {key} {expected}, the server has"
                    f" {parameters.get(key)!r}: use a client of the server's version"
                )
        sessions = parameters.get("live_sessions")
        return cls(
            name=name,
            width=int(parameters["width"]),
            height=int(parameters["height"]),
            frames=int(parameters["avatar_frames"]),
            max_frames=int(parameters["max_frames"]),
            live_sessions=None if sessions is None else int(sessions),
        )


def is_avatar(config: Mapping[str, Any]) -> bool:
    """Return True if a model's config is that of an avatar."""
    return "lipsync_api" in config.get("parameters", {})
