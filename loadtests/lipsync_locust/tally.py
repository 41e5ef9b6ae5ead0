"""The figures that Locust's statistics lack: frames, reasons of failures, and the successes' times alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .failures import LATE

# Kinds of events. A frame is counted once, with the event that brought it: CHUNK, LIVE or STREAM.
CHUNK = "chunk"  # one unary request
LIVE = "live"  # one unary request with a deadline
FIRST = "first frame"  # from the start of a clip to its first frame
CLIP = "clip"  # a whole clip, made of the chunks above
STREAM = "stream"  # a whole clip in one call
SETUP = "setup"  # a failed request for the server's avatars
CHUNKS = (CHUNK, LIVE)
REQUESTS = (CHUNK, LIVE, STREAM, SETUP)

PERCENTILES = (50, 95, 99)
Key = tuple[str, str]  # Locust's request type ("gRPC") and name ("short chunk")


@dataclass(frozen=True)
class Measured:
    """The data that an event carries in its Locust context under "lipsync".

    Attributes:
        kind: one of the kinds above.
        frames: frames that came with this event and with no other.
        clip_frames: length of the clip, for the event of a whole clip.
        timed: whether a response came, so that the event's time is its time.
    """

    kind: str
    frames: int = 0
    clip_frames: int = 0
    timed: bool = True


@dataclass
class TallyRow:
    """The events under one name of Locust's table.

    Attributes:
        seconds: sum of the successes' times.
        times_ms: number of times by their length, rounded to a millisecond: successes and late ones.
        reasons: number of failures by reason.
        examples: one message for each reason.
    """

    kind: str
    succeeded: int = 0
    frames: int = 0
    clip_frames: int = 0
    seconds: float = 0.0
    times_ms: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        return self.reasons.total()

    def merge(self, other: TallyRow) -> None:
        """Add the events of another row."""
        self.succeeded += other.succeeded
        self.frames += other.frames
        self.clip_frames += other.clip_frames
        self.seconds += other.seconds
        self.times_ms.update(other.times_ms)
        self.reasons.update(other.reasons)
        self.examples = {**other.examples, **self.examples}


class Tally:
    """Rows by name; workers send theirs in messages, and the master merges them."""

    def __init__(self) -> None:
        self.rows: dict[Key, TallyRow] = {}

    def add(
        self, key: Key, measured: Measured, time_ms: float, reason: str | None, message: str = ""
    ) -> None:
        """Count an event; `reason` is None for a success."""
        row = self.rows.setdefault(key, TallyRow(measured.kind))
        if reason is None:
            row.succeeded += 1
            row.frames += measured.frames
            row.clip_frames += measured.clip_frames
            row.seconds += time_ms / 1000
        else:
            row.reasons[reason] += 1
            row.examples.setdefault(reason, message)
        if measured.timed and reason in (None, LATE):
            row.times_ms[round(time_ms)] += 1

    def of(self, *kinds: str) -> list[TallyRow]:
        """Return the rows of these kinds."""
        return [row for row in self.rows.values() if row.kind in kinds]

    @property
    def frames(self) -> int:
        return sum(row.frames for row in self.rows.values())

    @property
    def requests(self) -> int:
        return sum(row.succeeded + row.failed for row in self.of(*REQUESTS))

    def drain(self) -> list[list[Any]]:
        """Return the rows as plain lists for a message, and empty the tally."""
        rows, self.rows = self.rows, {}
        return [
            [
                *key, row.kind, row.succeeded, row.frames, row.clip_frames, row.seconds,
                list(row.times_ms.items()), dict(row.reasons), row.examples,
            ]
            for key, row in rows.items()
        ]  # fmt: skip

    def merge(self, drained: Iterable[list[Any]]) -> None:
        """Add rows that another tally's `drain` returned."""
        for (
            type_,
            name,
            kind,
            succeeded,
            frames,
            clip_frames,
            seconds,
            times,
            reasons,
            why,
        ) in drained:
            other = TallyRow(
                kind,
                succeeded,
                frames,
                clip_frames,
                seconds,
                Counter(dict(times)),
                Counter(reasons),
                why,
            )
            self.rows.setdefault((type_, name), TallyRow(kind)).merge(other)

    def since(self, before: Tally) -> Tally:
        """Return the events that came after an earlier state of this tally."""
        change = Tally()
        for key, row in self.rows.items():
            old = before.rows.get(key, TallyRow(row.kind))
            change.rows[key] = TallyRow(
                row.kind,
                row.succeeded - old.succeeded,
                row.frames - old.frames,
                row.clip_frames - old.clip_frames,
                row.seconds - old.seconds,
                row.times_ms - old.times_ms,
                row.reasons - old.reasons,
                row.examples,
            )
        return change

    def clear(self) -> None:
        """Remove all rows."""
        self.rows = {}


def percentiles(
    rows: Iterable[TallyRow], wanted: tuple[int, ...] = PERCENTILES
) -> list[float | None]:
    """Return percentiles of the rows' times, milliseconds; None where nothing was measured."""
    times: Counter[int] = Counter()
    for row in rows:
        times.update(row.times_ms)
    if not times.total():
        return [None] * len(wanted)
    values = np.repeat(list(times.keys()), list(times.values()))
    return [float(x) for x in np.percentile(values, wanted, method="inverted_cdf")]
