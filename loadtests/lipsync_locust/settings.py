"""The run's settings, from Locust's command line (or its web form), and the sound that is sent."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from lipsync_client._audio import AudioFile
from lipsync_client.protocol import SAMPLE_RATE

SPEECH = Path(__file__).resolve().parents[2] / "examples" / "speech.wav"
OUTPUTS = ("H264", "JPEG", "FRAMES")
_PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}


def add_options(parser: Any) -> None:
    """Our options beside Locust's own; the web form shows them too."""

    def add(name: str, default: Any, text: str, **more: Any) -> None:
        parser.add_argument(f"--{name}", default=default, help=text, **more)

    add("grpc-url", "", "grpc://HOST:PORT or grpcs://; by default Locust's --host and port 8001")
    add("http-url", "", "http://HOST:PORT or https://; by default Locust's --host and port 8000")
    add("metrics-url", "", "Triton's /metrics, of every replica, with commas; by default port 8002")
    add("header", "", "headers of every request: 'name: value', more with ';'", is_secret=True)
    add("avatar", "", "avatars, with commas; by default those that the server lists")
    add("output", "H264", "what is asked for", choices=OUTPUTS)
    add("audio", str(SPEECH), "any audio file; repeated or cut to the length of each task")
    add("short-seconds", 2.0, "length of a short utterance", type=float)
    add("long-seconds", 30.0, "length of a long clip", type=float)
    add("in-flight", 3, "requests under way at once for one clip", type=int)
    add("request-timeout", 60.0, "seconds", type=float)
    add("stop-after", 0, "end the run after so many requests; 0: only as Locust does", type=int)
    add("live-deadline", 1.0, "seconds after which a live chunk is late", type=float)

    add("steps", "1,2,3,4,6,8,12,16,24,32", "with knee.py: users of each step")
    add("step-seconds", 30.0, "length of a step; its first quarter is not counted", type=float)
    add("knee-p95-ms", 1000.0, "a step with a longer p95 is past the knee", type=float)
    add("knee-late-ratio", 0.01, "a step with more late live chunks is past it", type=float)
    add("knee-failure-ratio", 0.0, "a step with more failures is past it", type=float)

    def limit(name: str, text: str) -> None:
        add(name, None, f"limit, turns into the exit code: {text}", type=float, **hidden)

    hidden = {"include_in_web_ui": False}
    limit("max-failure-ratio", "of all requests, late ones apart, 0 to 1")
    limit("max-late-ratio", "of the live chunks, 0 to 1")
    limit("max-p95-ms", "of the time of one request for a chunk")
    limit("max-first-frame-ms", "p95 of the time to a clip's first frame")
    limit("min-fps", "frames a second, all users together")
    add("summary", "", "file for our figures as JSON", **hidden)


@dataclass
class Settings:
    """What users need, read once a run on every node.

    Attributes:
        grpc, http: address "HOST:PORT" and whether it is TLS.
        avatars: names asked for; empty for those that the server lists.
    """

    grpc: tuple[str, bool]
    http: tuple[str, bool]
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
    def of(cls, options: Namespace, host: str | None) -> Settings:
        """Read options.

        Raises:
            InputError: the audio file cannot be read.
            ValueError: an option makes no sense; the message says which.
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
        return cls(
            grpc=_address(options.grpc_url, host, "grpc"),
            http=_address(options.http_url, host, "http"),
            metrics=_listed(options.metrics_url)
            or [f"http://{_address('', host, 'metrics')[0]}/metrics"],
            headers=_headers(options.header),
            avatars=_listed(options.avatar),
            output=options.output,
            audio=audio,
            short_s=options.short_seconds,
            long_s=options.long_seconds,
            in_flight=options.in_flight,
            timeout_s=options.request_timeout,
            deadline_s=options.live_deadline,
        )

    def clip(self, seconds: float) -> NDArray[np.float32]:
        """The audio, repeated or cut to a length; float32 [samples] at 16 kHz."""
        if seconds not in self.clips:
            self.clips[seconds] = np.resize(self.audio, round(seconds * SAMPLE_RATE))
        return self.clips[seconds]


def _address(url: str, host: str | None, protocol: str) -> tuple[str, bool]:
    """The address of a protocol: its own URL, or the port of that protocol on Locust's host."""
    text = url or host or "127.0.0.1"
    parts = urlsplit(text if "://" in text else f"//{text}")
    plain = parts.scheme.removesuffix("s")
    if plain not in ("", "http", "grpc") or not parts.hostname or (url and plain != protocol):
        raise ValueError(f"expected {protocol}://HOST:PORT, got {text!r}")
    port = parts.port if parts.port and plain == protocol else _PORTS[protocol]
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{name}:{port}", parts.scheme in ("https", "grpcs")


def _listed(text: str) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _headers(text: str) -> dict[str, str]:
    headers = {}
    for part in filter(str.strip, (text or "").split(";")):
        name, colon, value = part.partition(":")
        if not colon or not name.strip():
            raise ValueError(f"--header: expected 'name: value', got {part!r}")
        headers[name.strip().lower()] = value.strip()
    return headers
