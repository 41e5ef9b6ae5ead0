"""Errors of the embedded server."""

from __future__ import annotations


class EmbeddedServerError(Exception):
    """The embedded server failed."""


class ServerStartError(EmbeddedServerError):
    """tritonserver did not become ready.

    Attributes:
        exit_code: its exit code, or None if it was still starting.
        elapsed_s: seconds since it was started.
        log_tail: the last lines of its log.
    """

    def __init__(self, reason: str, exit_code: int | None, elapsed_s: float, log_tail: str) -> None:
        code = "it was still running" if exit_code is None else f"exit code {exit_code}"
        super().__init__(
            f"tritonserver did not start: {reason} ({code}, after {elapsed_s:.1f} s)."
            f" Its log ends:\n{log_tail}"
        )
        self.exit_code, self.elapsed_s, self.log_tail = exit_code, elapsed_s, log_tail
