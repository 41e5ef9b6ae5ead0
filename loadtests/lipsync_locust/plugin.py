"""Connect the users' events with the tally, the server's counters and the report, on every Locust node."""

from __future__ import annotations

import logging
import time
from argparse import Namespace
from typing import Any

import gevent
from locust import events
from locust.env import Environment
from locust.runners import MasterRunner, Runner, WorkerRunner

from . import knee, report
from .directory import Directory
from .failures import reason_of
from .server_metrics import Counters, difference, read
from .settings import LoadTestSettings, add_options
from .summary import LoadTestSummary, broken_limits, summarise
from .tally import Measured, Tally

_MESSAGE_KEY = "lipsync"
_STOP_MESSAGE = "lipsync_stop"
_REPORT_S = 10.0  # workers report every three seconds
_COUNTING_S = 1.0  # Triton counts a request after it has responded to it
log = logging.getLogger(__name__)
events.init_command_line_parser.add_listener(add_options)


class Plugin:
    """The state of a node; `environment.lipsync`.

    Attributes:
        settings: of the current run; None before the first, or if they cannot be used.
        steps: the finished steps of a search for the knee.
    """

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.settings: LoadTestSettings | None = None
        self._refused = self._ending = False
        self.directory = Directory()
        self.tally = Tally()
        self._unsent = Tally()
        self.steps: list[knee.Step] = []
        self.limits = knee.Limits(0, 0, 0)
        self._began = 0.0
        self._ended: float | None = None
        self._before: Counters | None = None
        self._after: Counters | None = None
        self._server_note = ""
        hooks = environment.events
        hooks.request.add_listener(self._on_request)
        hooks.test_start.add_listener(self._on_test_start)
        hooks.report_to_master.add_listener(self._on_report_to_master)
        hooks.worker_report.add_listener(self._on_worker_report)
        hooks.reset_stats.add_listener(self._on_reset)
        if self._is_worker:
            self._runner.register_message(_STOP_MESSAGE, self._on_stop_message)
        else:
            hooks.test_stopping.add_listener(self._on_test_stopping)
            hooks.test_stop.add_listener(self._on_test_stop)
            hooks.quitting.add_listener(self._on_quitting)
            hooks.quit.add_listener(self._on_quit)
        if environment.web_ui is not None:
            report.extend_web_ui(environment.web_ui, self.summary)

    @property
    def _runner(self) -> Runner:
        assert self.environment.runner is not None  # Locust sets both before any event
        return self.environment.runner

    @property
    def _options(self) -> Namespace:
        assert self.environment.parsed_options is not None
        options: Namespace = self.environment.parsed_options
        return options

    @property
    def _is_worker(self) -> bool:
        return isinstance(self.environment.runner, WorkerRunner)

    def summary(self) -> LoadTestSummary:
        """Return the figures of the run so far."""
        end = time.time() if self._ended is None else self._ended
        summary = summarise(self.tally, end - self._began if self._began else 0.0)
        summary.server_note = self._server_note
        if self._before is not None:
            try:
                # Not again after the end: a server that hangs would cost its timeout each time.
                after = self._read() if self._ended is None else self._after
                summary.server = difference(self._before, after) if after else []
            except ValueError as e:
                summary.server_note = str(e)
        if self.steps:
            summary.steps = self.steps
            summary.knee = knee.find(self.steps, self.limits).text
        options = self._options
        summary.settings = report.shown_settings(options, self.environment)
        summary.broken_limits = broken_limits(summary, options) or []
        return summary

    def _on_request(
        self,
        request_type: str,
        name: str,
        response_time: float,
        context: dict[str, Any],
        exception: BaseException | None,
        **_: Any,
    ) -> None:
        measured = context.get("lipsync")
        if not isinstance(measured, Measured):
            return
        reason = None if exception is None else reason_of(exception)
        message = "" if exception is None else str(exception)
        tally = self._unsent if self._is_worker else self.tally
        tally.add((request_type, name), measured, response_time, reason, message)
        if not self._is_worker:
            self._end_if_enough()

    def _on_test_start(self, **_: Any) -> None:
        self.tally.clear()
        self._unsent.clear()
        self.steps.clear()
        self._refused = self._ending = False
        self.directory = Directory()
        options = self._options
        try:
            self.settings = LoadTestSettings.of(options, self.environment.host)
        except Exception as e:  # Locust ignores the exceptions of listeners
            self.settings, self._refused = None, True
            log.error("the run cannot start: %s", e)
            if not self._is_worker:
                gevent.spawn(self._end_run)
            return
        self.limits = knee.Limits(
            options.knee_p95_ms, options.knee_late_ratio, options.knee_failure_ratio
        )
        self._began, self._ended, self._after = time.time(), None, None
        if not self._is_worker:
            self._before = self._read()

    def _end_if_enough(self) -> None:
        wanted = self._options.stop_after
        if wanted and not self._ending and self.tally.requests >= wanted:
            self._ending = True
            # Not here: a user may be the caller, and would wait for itself.
            gevent.spawn(self._end_run)

    def _end_run(self) -> None:
        self._runner.quit() if self.environment.web_ui is None else self._runner.stop()

    def _on_test_stopping(self, **_: Any) -> None:
        """Wait for the workers' last requests: without a web page Locust's master quits at once."""
        runner = self.environment.runner
        if not isinstance(runner, MasterRunner) or self.environment.web_ui is not None:
            return
        runner.send_message(_STOP_MESSAGE)
        deadline = time.time() + self.environment.stop_timeout + _REPORT_S
        while runner.user_count and time.time() < deadline:
            gevent.sleep(0.2)

    def _on_stop_message(self, **_: Any) -> None:
        gevent.spawn(self._runner.stop)  # the next report tells the master

    def _on_test_stop(self, **_: Any) -> None:
        if self.settings is not None and self._ended is None:
            self._ended = self._last_event()
            gevent.sleep(_COUNTING_S)
            self._after = self._read()

    def _last_event(self) -> float:
        """Return the time of the last request: the time after it is only the end of the run."""
        last = self.environment.stats.last_request_timestamp or self._began
        return float(min(max(last, self._began), time.time()))

    def _on_reset(self, **_: Any) -> None:
        self.tally.clear()
        self._unsent.clear()
        self._began = time.time()
        if not self._is_worker and self.settings is not None:
            self._before = self._read()

    def _read(self) -> Counters | None:
        assert self.settings is not None
        try:
            counters = read(self.settings.metrics)
        except (OSError, ValueError) as e:
            self._server_note = f"no figures of the server: {', '.join(self.settings.metrics)}: {e}"
            return None
        self._server_note = ""
        return counters

    def _on_report_to_master(self, data: dict[str, Any], **_: Any) -> None:
        data[_MESSAGE_KEY] = self._unsent.drain()

    def _on_worker_report(self, data: dict[str, Any], **_: Any) -> None:
        self.tally.merge(data.get(_MESSAGE_KEY, []))
        self._end_if_enough()

    def _on_quitting(self, **_: Any) -> None:
        if self.settings is None:
            self.environment.process_exit_code = 2 if self._refused else None
            return
        if self._ended is None:  # by a signal, during a run
            self._ended = self._last_event()
            self._after = self._read()
        broken = broken_limits(self.summary(), self._options)
        if broken is not None:
            self.environment.process_exit_code = 1 if broken else 0

    def _on_quit(self, **_: Any) -> None:
        if self.settings is not None:
            report.write(self.summary(), self._options)


@events.init.add_listener
def _on_init(environment: Environment, **_: Any) -> None:
    environment.lipsync = Plugin(environment)  # type: ignore[attr-defined]
