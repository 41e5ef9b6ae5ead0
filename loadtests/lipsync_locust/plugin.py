"""Ties the users' events to the tally, the server's counters and the report, on every Locust node."""

from __future__ import annotations

import logging
import time
from typing import Any

import gevent
from locust import events
from locust.runners import MasterRunner, WorkerRunner

from . import knee, report
from .directory import Directory
from .failures import Failure
from .server_metrics import Counters, difference, read
from .settings import Settings, add_options
from .summary import Summary, broken_limits, summarise, with_server, with_steps
from .tally import Measured, Tally

_MESSAGE_KEY = "lipsync"
_STOP_MESSAGE = "lipsync_stop"
_REPORT_S = 10.0  # workers report every three seconds
_COUNTING_S = 1.0  # Triton answers a request first, and counts it then
log = logging.getLogger(__name__)
events.init_command_line_parser.add_listener(add_options)


class Plugin:
    """The state of a node; `environment.lipsync`.

    Attributes:
        settings: of the run under way; None before the first, or if they make no sense.
        steps: that a search for the knee has finished.
    """

    def __init__(self, environment: Any) -> None:
        self.environment = environment
        self.settings: Settings | None = None
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
            environment.runner.register_message(_STOP_MESSAGE, self._on_stop_message)
        else:
            hooks.test_stopping.add_listener(self._on_test_stopping)
            hooks.test_stop.add_listener(self._on_test_stop)
            hooks.quitting.add_listener(self._on_quitting)
            hooks.quit.add_listener(self._on_quit)
        if environment.web_ui is not None:
            report.extend_web_ui(environment.web_ui, self.summary)

    @property
    def _is_worker(self) -> bool:
        return isinstance(self.environment.runner, WorkerRunner)

    def summary(self) -> Summary:
        """The run so far."""
        end = time.time() if self._ended is None else self._ended
        summary = summarise(self.tally, end - self._began if self._began else 0.0)
        summary.server_note = self._server_note
        if self._before is not None:
            try:
                # After the end never again: a server that hangs would cost its time-out each time.
                after = self._read() if self._ended is None else self._after
                with_server(summary, difference(self._before, after) if after else [])
            except ValueError as e:
                summary.server_note = str(e)
        if self.steps:
            with_steps(summary, self.steps, knee.find(self.steps, self.limits))
        options = self.environment.parsed_options
        summary.settings = report.shown_settings(options, self.environment)
        summary.broken_limits = broken_limits(summary, options) or []
        return summary

    def elapsed_s(self) -> float:
        return time.time() - self._began

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
        cause, message = None, ""
        if isinstance(exception, Failure):
            cause, message = exception.cause, exception.message
        elif exception is not None:
            cause, message = type(exception).__name__, str(exception)
        tally = self._unsent if self._is_worker else self.tally
        tally.add((request_type, name), measured, response_time, cause, message)
        if not self._is_worker:
            self._end_if_enough()

    def _on_test_start(self, **_: Any) -> None:
        self.tally.clear()
        self._unsent.clear()
        self.steps.clear()
        self._refused = self._ending = False
        self.directory = Directory()
        options = self.environment.parsed_options
        try:
            self.settings = Settings.of(options, self.environment.host)
        except Exception as e:  # Locust would go on after any exception of a listener
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
        wanted = self.environment.parsed_options.stop_after
        if wanted and not self._ending and self.tally.requests >= wanted:
            self._ending = True
            gevent.spawn(
                self._end_run
            )  # not here: a user may be calling, and would wait for itself

    def _end_run(self) -> None:
        runner = self.environment.runner
        runner.quit() if self.environment.web_ui is None else runner.stop()

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
        gevent.spawn(self.environment.runner.stop)  # the master hears of it in the next report

    def _on_test_stop(self, **_: Any) -> None:
        if self.settings is not None and self._ended is None:
            self._ended = self._last_event()
            gevent.sleep(_COUNTING_S)
            self._after = self._read()

    def _last_event(self) -> float:
        """Time of the last request, as Locust merges it: what comes after it is only the run's end."""
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
        if self._ended is None:  # by a signal, in the midst of a run
            self._ended = self._last_event()
            self._after = self._read()
        broken = broken_limits(self.summary(), self.environment.parsed_options)
        if broken is not None:
            self.environment.process_exit_code = 1 if broken else 0

    def _on_quit(self, **_: Any) -> None:
        if self.settings is not None:
            report.write(self.summary(), self.environment.parsed_options)


@events.init.add_listener
def _on_init(environment: Any, **_: Any) -> None:
    environment.lipsync = Plugin(environment)
