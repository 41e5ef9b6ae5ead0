"""The settings of a run, from Locust's command line or web form, and the audio that is sent."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from lipsync_client._audio import AudioFile
from lipsync_client.protocol import SAMPLE_RATE

if TYPE_CHECKING:
    from locust.argument_parser import LocustArgumentParser

SPEECH = Path(__file__).resolve().parents[2] / "examples" / "speech.wav"
OUTPUTS = ("H264", "JPEG", "FRAMES")
_PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}


@dataclass(frozen=True)
class Endpoint:
    """The address of one protocol.

    Attributes:
        host_port: HOST:PORT.
        tls: whether the connection uses TLS.
    """

    host_port: str
    tls: bool


def add_options(parser: LocustArgumentParser) -> None:
    """Add our options to Locust's own; the web form shows them, too."""

    def add(name: str, default: Any, text: str, **more: Any) -> None:
        parser.add_argument(f"--{name}", default=default, help=text, **more)

    add("grpc-url", "", "grpc://HOST:PORT or grpcs://; by default Locust's --host and port 8001")
    add("http-url", "", "http://HOST:PORT or https://; by default Locust's --host and port 8000")
    add("metrics-url", "", "Triton's /metrics of every replica, with commas; by default port 8002")
    add("header", "", "headers of every request: 'name: value; name: value'", is_secret=True)
    add("avatar", "", "avatars, with commas; by default those that the server lists")
    add("output", "H264", "output to request", choices=OUTPUTS)
    add("audio", str(SPEECH), "any audio file; repeated or cut to the length of each clip")
    add("short-seconds", 2.0, "length of a short clip", type=float)
    add("long-seconds", 30.0, "length of a long clip", type=float)
    add("in-flight", 3, "requests in flight for one clip", type=int)
    add("request-timeout", 60.0, "longest time to wait for a response, seconds", type=float)
    add("stop-after", 0, "end the run after this many requests; 0: when Locust ends it", type=int)
    add("live-deadline", 1.0, "seconds after which a live chunk is late", type=float)

    add("steps", "1,2,3,4,6,8,12,16,24,32", "with knee.py: users of each step")
    add("step-seconds", 30.0, "length of a step; its first quarter is not counted", type=float)
    add("knee-p95-ms", 1000.0, "a step with a longer p95 is past the knee", type=float)
    add("knee-late-ratio", 0.01, "a step with more late live chunks is past the knee", type=float)
    add("knee-failure-ratio", 0.0, "a step with more failures is past the knee", type=float)

    def limit(name: str, text: str) -> None:
        add(name, None, f"limit that decides the exit code: {text}", type=float, **hidden)

    hidden = {"include_in_web_ui": False}
    limit("max-failure-ratio", "share of all requests, without late ones, 0 to 1")
    limit("max-late-ratio", "share of the live chunks, 0 to 1")
    limit("max-p95-ms", "p95 of the time of one request for a chunk")
    limit("max-first-frame-ms", "p95 of the time to a clip's first frame")
    limit("min-fps", "frames per second, all users together")
    add("summary", "", "JSON file for our figures", **hidden)


@dataclass
class LoadTestSettings:
    """The settings that users need, read once per run on every node.

    Attributes:
        avatars: names of avatars; empty for those that the server lists.
        audio: float32 [samples], 16 kHz.
    """

    grpc: Endpoint
    http: Endpoint
    metrics: list[str]
    headers: dict[str, str]
    avatars: list[str]
    output: str
    audio: NDArray[np.float32]
    short_s: float
    long_s: float
    in_flight: int
    timeout_s: float
    deadline_s: float
    clips: dict[float, NDArray[np.float32]] = field(default_factory=dict)

    @classmethod
    def of(cls, options: Namespace, host: str | None) -> LoadTestSettings:
        """Read the settings from Locust's options.

        Raises:
            InputError: the audio file cannot be read.
            ValueError: an option has a value that cannot be used; the message names it.
        """
        if options.in_flight < 1:
            raise ValueError(f"--in-flight must be 1 or more, got {options.in_flight}")
        shortest = min(options.short_seconds, options.long_seconds)
        if shortest <= 0:
            raise ValueError(f"clips must be longer than 0 s, got {shortest:g}")
        file = AudioFile(options.audio)
        try:
            audio = np.concatenate(list(file.blocks()))
        finally:
            file.close()
        metrics = f"http://{address('', host, 'metrics').host_port}/metrics"
        return cls(
            grpc=address(options.grpc_url, host, "grpc"),
            http=address(options.http_url, host, "http"),
            metrics=_split(options.metrics_url) or [metrics],
            headers=headers(options.header),
            avatars=_split(options.avatar),
            output=options.output,
            audio=audio,
            short_s=options.short_seconds,
            long_s=options.long_seconds,
            in_flight=options.in_flight,
            timeout_s=options.request_timeout,
            deadline_s=options.live_deadline,
        )

    def clip(self, seconds: float) -> NDArray[np.float32]:
        """Return the audio, repeated or cut to a length: float32 [samples] at 16 kHz."""
        if seconds not in self.clips:
            self.clips[seconds] = np.resize(self.audio, round(seconds * SAMPLE_RATE))
        return self.clips[seconds]


def address(url: str, host: str | None, protocol: str) -> Endpoint:
    """Return the address of a protocol: its own URL, or its usual port on Locust's host.

    Raises:
        ValueError: the URL is not one of this protocol.
    """
    text = url or host or "127.0.0.1"
    parts = urlsplit(text if "://" in text else f"//{text}")
    plain = parts.scheme.removesuffix("s")
    if plain not in ("", "http", "grpc") or not parts.hostname or (url and plain != protocol):
        raise ValueError(f"expected {protocol}://HOST:PORT, got {text!r}")
    port = parts.port if parts.port and plain == protocol else _PORTS[protocol]
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Endpoint(f"{name}:{port}", parts.scheme in ("https", "grpcs"))


def headers(text: str) -> dict[str, str]:
    """Return the headers of an option such as "name: value; name: value".

    Raises:
        ValueError: a part is not "name: value".
    """
    found = {}
    for part in filter(str.strip, (text or "").split(";")):
        name, colon, value = part.partition(":")
        if not colon or not name.strip():
            raise ValueError(f"--header: expected 'name: value', got {part!r}")
        found[name.strip().lower()] = value.strip()
    return found


def _split(text: str) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]
