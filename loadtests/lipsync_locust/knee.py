"""Where more users stop paying: the last step that keeps to the limits and still makes more frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GROWTH = 1.05  # frames a second must grow by this factor to count as growing: runs differ by less


@dataclass(frozen=True)
class Step:
    """What one step of the load came to.

    Attributes:
        p95_ms: of single requests, or of the first frame where all users stream; None if none came.
        late: share of live chunks that came after their deadline, 0 to 1.
        failed: share of requests that failed for another reason, 0 to 1.
    """

    users: int
    fps: float
    p95_ms: float | None
    late: float
    failed: float


@dataclass(frozen=True)
class Limits:
    p95_ms: float
    late: float
    failed: float

    def broken_by(self, step: Step) -> str | None:
        """The limit a step breaks, in words."""
        if step.p95_ms is None:
            return "no request came back"
        if step.failed > self.failed:
            return f"{step.failed:.1%} of the requests failed (limit {self.failed:.1%})"
        if step.late > self.late:
            return f"{step.late:.1%} of the live chunks were late (limit {self.late:.1%})"
        if step.p95_ms > self.p95_ms:
            return f"p95 was {step.p95_ms:.0f} ms (limit {self.p95_ms:.0f} ms)"
        return None


@dataclass(frozen=True)
class Knee:
    """The step, or None if not even the first kept to the limits, and a sentence.

    Attributes:
        found: a further step was worse, so the search may end.
    """

    step: Step | None
    found: bool
    words: str


def find(steps: Sequence[Step], limits: Limits) -> Knee:
    """Look through steps with ever more users."""
    best: Step | None = None
    for step in steps:
        why = limits.broken_by(step)
        if why is None and best is not None and step.fps < GROWTH * best.fps:
            why = f"it made {step.fps:.1f} frames a second, not {GROWTH - 1:.0%} more"
        if why is None:
            best = step
        elif best is None:
            return Knee(None, True, f"No knee: already {_users(step.users)} were too many: {why}.")
        else:
            return Knee(
                best,
                True,
                f"The knee is at {_users(best.users)}: {best.fps:.1f} frames a second, p95"
                f" {best.p95_ms:.0f} ms. With {_users(step.users)}, {why}.",
            )
    if best is None:
        return Knee(None, False, "No step was finished.")
    return Knee(
        best,
        False,
        f"No knee up to {_users(best.users)}: {best.fps:.1f} frames a second, p95"
        f" {best.p95_ms:.0f} ms; further steps were not tried.",
    )


def _users(count: int) -> str:
    return "1 user" if count == 1 else f"{count} users"
