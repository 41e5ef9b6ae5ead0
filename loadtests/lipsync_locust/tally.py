"""What Locust's statistics do not hold: frames, causes of failures, times of the successes alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Kinds of events. Frames are counted once, on the event that brought them: CHUNK, or STREAM.
CHUNK = "chunk"  # one unary request
LIVE = "live"  # one unary request with a deadline
FIRST = "first frame"  # from the start of a clip to its first frame
CLIP = "clip"  # a whole clip, of the chunks above
STREAM = "stream"  # a whole clip in one call
SETUP = "setup"  # asking the server for its avatars, where that failed
CHUNKS = (CHUNK, LIVE)
REQUESTS = (CHUNK, LIVE, STREAM, SETUP)

LATE = "late"
Key = tuple[str, str]  # Locust's request type ("gRPC") and name ("short chunk")


@dataclass(frozen=True)
class Measured:
    """What an event carries in its Locust context under "lipsync".

    Attributes:
        kind: one of the kinds above.
        frames: that came with this event and no other.
        clip_frames: length of the clip, of a whole clip's event.
        timed: there was an answer, and the event's time is its time.
    """

    kind: str
    frames: int = 0
    clip_frames: int = 0
    timed: bool = True


@dataclass
class Row:
    """One name of Locust's table.

    Attributes:
        seconds: sum of the successes' times.
        times_ms: how often each time was seen, rounded to a millisecond: successes and late ones.
        causes: failures by cause, and one message for each.
    """

    kind: str
    succeeded: int = 0
    frames: int = 0
    clip_frames: int = 0
    seconds: float = 0.0
    times_ms: Counter[int] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        return self.causes.total()


class Tally:
    """Rows by name; workers drain theirs into messages, the master merges them."""

    def __init__(self) -> None:
        self.rows: dict[Key, Row] = {}

    def add(
        self, key: Key, measured: Measured, time_ms: float, cause: str | None, message: str = ""
    ) -> None:
        row = self.rows.setdefault(key, Row(measured.kind))
        if cause is None:
            row.succeeded += 1
            row.frames += measured.frames
            row.clip_frames += measured.clip_frames
            row.seconds += time_ms / 1000
        else:
            row.causes[cause] += 1
            row.examples.setdefault(cause, message)
        if measured.timed and cause in (None, LATE):
            row.times_ms[round(time_ms)] += 1

    def of(self, *kinds: str) -> list[Row]:
        return [row for row in self.rows.values() if row.kind in kinds]

    @property
    def frames(self) -> int:
        return sum(row.frames for row in self.rows.values())

    @property
    def requests(self) -> int:
        return sum(row.succeeded + row.failed for row in self.of(*REQUESTS))

    def drain(self) -> list[list[Any]]:
        """The rows as plain lists and dictionaries with string keys, and an empty tally after it."""
        rows, self.rows = self.rows, {}
        return [
            [
                *key, row.kind, row.succeeded, row.frames, row.clip_frames, row.seconds,
                [list(pair) for pair in row.times_ms.items()], dict(row.causes), row.examples,
            ]
            for key, row in rows.items()
        ]  # fmt: skip

    def merge(self, drained: Iterable[list[Any]]) -> None:
        for (
            type_,
            name,
            kind,
            succeeded,
            frames,
            clip_frames,
            seconds,
            times,
            causes,
            why,
        ) in drained:
            row = self.rows.setdefault((type_, name), Row(kind))
            row.succeeded += succeeded
            row.frames += frames
            row.clip_frames += clip_frames
            row.seconds += seconds
            row.times_ms.update(dict(times))
            row.causes.update(causes)
            row.examples = {**why, **row.examples}

    def since(self, before: Tally) -> Tally:
        """What came after an earlier state of this tally."""
        change = Tally()
        for key, row in self.rows.items():
            was = before.rows.get(key, Row(row.kind))
            change.rows[key] = Row(
                row.kind,
                row.succeeded - was.succeeded,
                row.frames - was.frames,
                row.clip_frames - was.clip_frames,
                row.seconds - was.seconds,
                row.times_ms - was.times_ms,
                row.causes - was.causes,
                row.examples,
            )
        return change

    def clear(self) -> None:
        self.rows = {}


def percentiles(rows: Iterable[Row], wanted: tuple[int, ...] = (50, 95, 99)) -> list[float | None]:
    """Milliseconds; None where nothing was measured."""
    times: Counter[int] = Counter()
    for row in rows:
        times.update(row.times_ms)
    return histogram_percentiles(times, wanted)


def histogram_percentiles(
    times_ms: Counter[int], wanted: tuple[int, ...] = (50, 95, 99)
) -> list[float | None]:
    if not times_ms.total():
        return [None] * len(wanted)
    values = np.repeat(list(times_ms.keys()), list(times_ms.values()))
    return [float(x) for x in np.percentile(values, wanted, method="inverted_cdf")]
