"""A pytest plugin that says in a line which tests were left out, and fails in CI if any was."""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from pathlib import Path

import pytest

from .programs import NEEDS, packages

HARDWARE = "hardware: "  # begins a reason that no installation can remove
# Tests that are not collected without a package: torch is large, and few need it; Pipecat has no version for
# Python 3.10.
_NEEDS_PACKAGE = {
    "test_checkpoint_export.py": ("torch", "make test-export"),
    "test_training.py": ("torch", "make test-export"),
    "test_creation.py": ("torch", "make test-export"),
    "test_distillation.py": ("torch", "make test-export"),
    "test_inheritance.py": ("torch", "make test-export"),
    "test_student_figures.py": ("torch", "make test-export"),
    "test_pipecat.py": ("pipecat", "Python 3.11 or later"),
    "test_pipecat_webrtc.py": ("pipecat", "Python 3.11 or later"),
}
_reasons: list[str] = []


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the tests of a package that is not installed."""
    return True if collection_path.name in _without_package() else None


@cache
def _without_package() -> dict[str, tuple[str, str]]:
    return {
        file: (package, advice)
        for file, (package, advice) in _NEEDS_PACKAGE.items()
        if importlib.util.find_spec(package) is None
    }


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
    if terminalreporter.config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        for file, (package, advice) in _without_package().items():
            lines.append(f"tests left out: {file}, which needs {package} ({advice})")
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
