"""Settings of the web service."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .jobs.settings import JobSettings

USUAL_MAX_SESSIONS = 8  # where neither the user nor the server tells a number


@dataclass(frozen=True)
class IceServer:
    """A STUN or TURN server that both peers use to find a path to each other.

    Attributes:
        url: `stun:HOST:PORT`, `turn:HOST:PORT` or `turns:HOST:PORT`.
        username, credential: of a TURN server.
    """

    url: str
    username: str | None = None
    credential: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class WebSettings:
    """Settings of `create_app`.

    Attributes:
        url: the lip-sync server, or several with commas between them.
        server_token: bearer token for the server's gateway.
        server_ca_file: PEM of the authority that signed the gateway's certificate.
        token: bearer token that callers of this service must send. Without it and without `callers_file`,
            everybody is let in.
        callers_file: list of callers and their tokens, as the gateway's `callers.map`.
        ice_servers: offered to browsers and used by this service.
        max_sessions: live sessions at once; a further one is refused with status 503. None for the number
            that the server tells for the avatar (`live_sessions` of its profile), or else
            `USUAL_MAX_SESSIONS`.
        max_session_s: a session ends after this time.
        max_upload_bytes: size of an uploaded audio file.
        max_audio_s: length of an uploaded audio file.
        connect_timeout_s: a peer that has not connected after this time is dropped.
        unwatched_timeout_s: a session ends when nobody has watched it for this time.
        stall_s: longest time, in all, for which a session's frames and audio wait for a late server before
            frames are repeated.
        jobs: those of the jobs.
        metrics_port: port of a further listener for `/metrics`, which asks for no token.
    """

    url: str = "grpc://127.0.0.1:8001"
    server_token: str | None = field(default=None, repr=False)
    server_ca_file: Path | None = None
    token: str | None = field(default=None, repr=False)
    ice_servers: tuple[IceServer, ...] = ()
    max_sessions: int | None = None
    max_session_s: float = 3600.0
    max_upload_bytes: int = 64 << 20
    max_audio_s: float = 600.0
    connect_timeout_s: float = 15.0
    unwatched_timeout_s: float = 10.0
    stall_s: float = 1.0
    callers_file: Path | None = None
    jobs: JobSettings = field(default_factory=JobSettings)
    metrics_port: int | None = None
