"""The lines about tests that were left out."""

from __future__ import annotations

from support.left_out import HARDWARE, left_out
from support.programs import NEEDS


def test_missing_programs_are_one_line_with_the_command() -> None:
    reasons = [NEEDS + "promtool", NEEDS + "haproxy", NEEDS + "prometheus", HARDWARE + "no bf16"]
    assert left_out(reasons) == [
        "tests left out: 3 that need haproxy, prometheus, promtool"
        " (as root: apt-get install haproxy prometheus)",
        "tests left out: 1, hardware: no bf16",
    ]


def test_nothing_is_printed_if_nothing_was_left_out() -> None:
    assert left_out([]) == []
