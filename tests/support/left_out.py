"""A pytest plugin that says in a line which tests were left out, and fails in CI if any was."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from .programs import NEEDS, packages

HARDWARE = "hardware: "  # begins a reason that no installation can remove
NEEDS_TORCH = "test_checkpoint_export.py"
_reasons: list[str] = []


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the tests of checkpoints where torch is not installed: it is large, and few need it."""
    return True if collection_path.name == NEEDS_TORCH and not _has_torch() else None


def _has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note(report)


def _note(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and isinstance(report.longrepr, tuple):
        _reasons.append(report.longrepr[2].removeprefix("Skipped: "))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _fails_ci() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = left_out(_reasons)
    if (
        terminalreporter.config.args_source is pytest.Config.ArgsSource.TESTPATHS
        and not _has_torch()
    ):
        lines.append(f"tests left out: {NEEDS_TORCH}, which needs torch (make test-export)")
    for line in lines:
        terminalreporter.write_line(line, yellow=True)
    if _fails_ci():
        terminalreporter.write_line("In CI no test may be left out: this run failed.", red=True)


def _fails_ci() -> bool:
    return bool(os.environ.get("CI")) and any(not r.startswith(HARDWARE) for r in _reasons)


def left_out(reasons: list[str]) -> list[str]:
    """Return a line for all missing programs, with the command for them, and one for each other reason."""
    lines = []
    missing = sorted({r.removeprefix(NEEDS) for r in reasons if r.startswith(NEEDS)})
    if missing:
        count = sum(r.startswith(NEEDS) for r in reasons)
        wanted = " ".join(sorted({packages()[name] for name in missing}))
        lines.append(
            f"tests left out: {count} that need {', '.join(missing)}"
            f" (as root: apt-get install {wanted})"
        )
    for reason in sorted({r for r in reasons if not r.startswith(NEEDS)}):
        lines.append(f"tests left out: {reasons.count(reason)}, {reason}")
    return lines
