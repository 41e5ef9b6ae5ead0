"""The record of a job."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal

from .options import JobOptions

Status = Literal["waiting", "running", "done", "failed", "deleted"]
OPEN: tuple[Status, ...] = ("waiting", "running")
WEBHOOK_CHECK_S = 20.0  # after so long a webhook's call is queued again; a call takes 15 s


@dataclass(frozen=True)
class Job:
    """A job. Times are seconds since 1970.

    Attributes:
        id: unguessable.
        caller: whose it is.
        avatar, options: what to render.
        fingerprint: digest of the request, audio included.
        key: the caller's Idempotency-Key.
        status: "deleted" jobs are gone for callers; their files are being deleted.
        wake: while it waits, the time to look for its message in the queue; while it runs, the end of the
            worker's lease.
        worker: the one that renders it, with the number of its attempt: what it writes is valid while this is
            its own.
        attempt: number of the attempt, from 1.
        tries: attempts since the last new frame.
        best: most frames that an attempt made.
        frames, expected_frames, fps: progress.
        error: the reason of a failure, or of the try that will be repeated.
        warnings: parts of the audio that could not be decoded.
        bytes: size of the video.
        expires: deleted at this time.
        webhook: URL to call at the end.
        webhook_due: time of the next call; None: none is due.
        webhook_tries: calls so far.
        webhook_status: "pending", "delivered" or "failed"; None without a webhook.
    """

    id: str
    caller: str
    avatar: str
    options: JobOptions
    fingerprint: str
    created: float
    wake: float
    key: str | None = None
    status: Status = "waiting"
    worker: str | None = None
    attempt: int = 0
    tries: int = 0
    best: int = 0
    started: float | None = None
    ended: float | None = None
    frames: int = 0
    expected_frames: int | None = None
    fps: float | None = None
    error: str | None = None
    warnings: tuple[str, ...] = field(default=())
    bytes: int | None = None
    expires: float | None = None
    webhook: str | None = None
    webhook_due: float | None = None
    webhook_tries: int = 0
    webhook_status: str | None = None

    @property
    def open(self) -> bool:
        """Return whether the job waits or runs."""
        return self.status in OPEN

    @property
    def due(self) -> float:
        """The time at which a sweep looks at the job."""
        if self.open:
            return self.wake
        if self.status == "deleted":
            return 0.0
        times = (self.webhook_due, self.expires)
        return min(math.inf if t is None else t for t in times)

    def to_json(self) -> str:
        """Return the record as JSON, the same for the same record."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Return the record that `to_json` wrote."""
        values = json.loads(text)
        values["options"] = JobOptions(**values["options"])
        values["warnings"] = tuple(values["warnings"])
        return cls(**values)

    def figures(self) -> dict[str, Any]:
        """Return what callers see."""
        eta_s = None
        if self.status == "running" and self.fps and self.expected_frames is not None:
            eta_s = round(max(0, self.expected_frames - self.frames) / self.fps, 1)
        progress = None
        if self.status == "done":
            progress = 1.0
        elif self.expected_frames:
            progress = round(min(1.0, self.frames / self.expected_frames), 4)
        return {
            "id": self.id,
            "status": self.status,
            "avatar": self.avatar,
            "options": self.options.to_json(),
            "progress": progress,
            "frames": self.frames,
            "expected_frames": self.expected_frames,
            "fps": self.fps and round(self.fps, 1),
            "eta_s": eta_s,
            "attempt": self.attempt,
            "error": self.error,
            "warnings": list(self.warnings),
            "bytes": self.bytes,
            "created": _iso(self.created),
            "started": _iso(self.started),
            "ended": _iso(self.ended),
            "expires": _iso(self.expires),
            "video": f"/v1/jobs/{self.id}/video" if self.status == "done" else None,
            "webhook": self.webhook_status,
        }


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")


def now() -> float:
    """Return the time, the same on all machines, in seconds since 1970."""
    return time.time()
