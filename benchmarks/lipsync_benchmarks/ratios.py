"""A regression guard of ratios: a machine's own speed cancels out of them, so they can be kept."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from .case import machine
from .measure import Row
from .report import ratios

KEYS = ("bare", "cached", "triton-grpc-8", "mp4")
SECONDS = 2.56  # of speech: 63 frames
TURNS = 3
Kept = dict[str, dict[str, float]]  # row: median, least, most of its ratio


def kept(rows: list[Row]) -> Kept:
    result = {}
    for row in rows[1:]:
        values = ratios(row, rows[0])
        if not values:
            continue  # every run of it failed: compare() says that it was not measured
        result[row.key] = {
            "median": round(statistics.median(values), 3),
            "least": round(min(values), 3),
            "most": round(max(values), 3),
        }
    return result


def write(path: Path, rows: list[Row]) -> None:
    record = {"machine": machine(), "turns": len(rows[0].samples), "ratios": kept(rows)}
    path.write_text(json.dumps(record, indent=2) + "\n")


def compare(path: Path, rows: list[Row]) -> str:
    """What moved since the ratios at `path` were kept, in words.

    A ratio has moved if its values of now lie all above, or all below, its values of then.
    """
    if not path.exists():
        return f"no ratios are kept in {path}: --keep-ratios keeps those of a quiet machine"
    record = json.loads(path.read_text())
    now, names = kept(rows), {row.key: row.name for row in rows}
    then: Kept = record["ratios"]
    lines = [f"Ratios to the bare network, against those kept from {record['machine']}:"]
    for key, new in now.items():
        if key not in then:
            lines.append(f"  {names[key]}: {new['median']:.2f}; none was kept")
            continue
        old = then[key]
        lines.append(f"  {names[key]}: {_words(old, new)}")
    lines += [f"  {key}: kept, but not measured now" for key in sorted(set(then) - set(now))]
    return "\n".join(lines)


def _words(old: dict[str, float], new: dict[str, float]) -> str:
    figures = (
        f"{new['median']:.2f} ({new['least']:.2f}-{new['most']:.2f}),"
        f" was {old['median']:.2f} ({old['least']:.2f}-{old['most']:.2f})"
    )
    change = abs(new["median"] / old["median"] - 1)
    if new["least"] > old["most"]:
        return f"FASTER by {change:.0%}: {figures}"
    if new["most"] < old["least"]:
        return f"SLOWER by {change:.0%}: {figures}"
    return f"the same within the spread: {figures}"
