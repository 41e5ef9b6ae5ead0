"""The knee: the last step of the load that keeps within the limits and still makes more frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GROWTH = (
    1.05  # frames per second must grow by this factor: smaller differences are noise between runs
)


@dataclass(frozen=True)
class Step:
    """The figures of one step of the load.

    Attributes:
        p95_ms: of single requests, or of the first frame if all users stream; None without a response.
        late: share of live chunks that came after their deadline, 0 to 1.
        failed: share of requests that failed for another reason than lateness, 0 to 1.
    """

    users: int
    fps: float
    p95_ms: float | None
    late: float
    failed: float


@dataclass(frozen=True)
class Limits:
    """The limits of a step: the 95th percentile, and the shares of late and failed requests."""

    p95_ms: float
    late: float
    failed: float

    def broken_by(self, step: Step) -> str | None:
        """Return the limit that a step breaks, as text; None if it breaks none."""
        if step.p95_ms is None:
            return "no request was answered"
        if step.failed > self.failed:
            return f"{step.failed:.1%} of the requests failed (limit {self.failed:.1%})"
        if step.late > self.late:
            return f"{step.late:.1%} of the live chunks were late (limit {self.late:.1%})"
        if step.p95_ms > self.p95_ms:
            return f"p95 was {step.p95_ms:.0f} ms (limit {self.p95_ms:.0f} ms)"
        return None


@dataclass(frozen=True)
class Knee:
    """The result of a search.

    Attributes:
        step: the knee; None if even the first step broke a limit.
        found: a later step was worse, so the search may end.
        text: the result as a sentence.
    """

    step: Step | None
    found: bool
    text: str


def find(steps: Sequence[Step], limits: Limits) -> Knee:
    """Find the knee among steps with increasing numbers of users."""
    best: Step | None = None
    for step in steps:
        why = limits.broken_by(step)
        if why is None and best is not None and step.fps < GROWTH * best.fps:
            why = f"they got {step.fps:.1f} frames per second, not {GROWTH - 1:.0%} more"
        if why is None:
            best = step
        elif best is None:
            return Knee(None, True, f"No knee: {_users(step.users)} broke a limit: {why}.")
        else:
            return Knee(
                best,
                True,
                f"The knee is at {_users(best.users)}: {best.fps:.1f} frames per second, p95"
                f" {best.p95_ms:.0f} ms. With {_users(step.users)}, {why}.",
            )
    if best is None:
        return Knee(None, False, "No step was finished.")
    return Knee(
        best,
        False,
        f"No knee up to {_users(best.users)}: {best.fps:.1f} frames per second, p95"
        f" {best.p95_ms:.0f} ms; no further steps were run.",
    )


def _users(count: int) -> str:
    return "1 user" if count == 1 else f"{count} users"
