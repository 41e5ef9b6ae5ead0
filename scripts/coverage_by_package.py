"""Print the coverage of each package and of each of its rooms: coverage_by_package.py COVERAGE.json."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path


def main(report: Path) -> None:
    """Print a table of the lines that ran and the lines that there are."""
    lines: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name, file in json.loads(report.read_text())["files"].items():
        parts = Path(name).parts
        if Path(name).is_absolute():  # a copy of a model, of which the tests made another one
            continue
        package = "/".join(parts[:2])
        summary = file["summary"]
        for key in {package, "/".join(parts[:3]) if len(parts) > 3 else package, "all"}:
            lines[key][0] += summary["covered_lines"]
            lines[key][1] += summary["num_statements"]
    print("coverage, lines")
    for key in sorted(lines, key=lambda k: (k == "all", k)):
        covered, count = lines[key]
        print(f"  {key:48} {covered:6} of {count:6} {100 * covered / count:5.1f} %")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
