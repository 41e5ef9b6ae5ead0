"""A regression guard of ratios, which can be kept in a file because the machine's own speed cancels out."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import TypedDict

from .case import ROOT, machine
from .measure import Row
from .tables import ratios

PATH = ROOT / "benchmarks" / "ratios.json"


class Ratio(TypedDict):
    """The ratio of a row to the bare network, over several turns."""

    median: float
    least: float
    most: float


class Record(TypedDict):
    """The file of kept ratios."""

    machine: str
    turns: int
    ratios: dict[str, Ratio]  # by key of the row


def of(rows: list[Row]) -> dict[str, Ratio]:
    """Return the ratios of all rows to the first, by key; rows without a sample have none."""
    return {
        row.key: {
            "median": round(statistics.median(values), 3),
            "least": round(min(values), 3),
            "most": round(max(values), 3),
        }
        for row in rows[1:]
        if (values := ratios(row, rows[0]))
    }


def write(path: Path, rows: list[Row]) -> None:
    """Keep the ratios of the rows in a file."""
    record: Record = {"machine": machine(), "turns": len(rows[0].samples), "ratios": of(rows)}
    path.write_text(json.dumps(record, indent=2) + "\n")


def compare(path: Path, rows: list[Row]) -> str:
    """Return the differences from the ratios kept at `path`, as text.

    A ratio has changed if its values now lie all above, or all below, its values then.
    """
    if not path.exists():
        return f"no ratios are kept in {path}: run with --keep on a quiet machine to keep them"
    record: Record = json.loads(path.read_text())
    then, now = record["ratios"], of(rows)
    names = {row.key: row.name for row in rows}
    lines = [f"Ratios to the bare network, against those kept from {record['machine']}:"]
    for key, ratio in now.items():
        if key in then:
            lines.append(f"  {names[key]}: {_difference(then[key], ratio)}")
        else:
            lines.append(f"  {names[key]}: {ratio['median']:.2f}; none was kept")
    lines += [f"  {key}: kept, but not measured now" for key in sorted(set(then) - set(now))]
    return "\n".join(lines)


def _difference(old: Ratio, new: Ratio) -> str:
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
