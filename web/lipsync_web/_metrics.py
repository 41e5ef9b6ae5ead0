"""Metrics of the jobs for Prometheus, read from the store when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .jobs.job import now
from .jobs.store import JobStore, StoreUnreachable

_COUNTERS = {
    "attempts": "attempts to render a job",
    "workers_lost": "jobs whose worker stopped answering",
    "frames": "frames of jobs that have ended",
}
_ENDS = ("done", "failed")
_CALLS = ("delivered", "failed")


def registry(store: JobStore, sessions: Callable[[], int]) -> CollectorRegistry:
    """Return a registry of the service's metrics.

    The numbers of jobs are those of the store, so that several services with one store show the same.

    Args:
        store: the records of the jobs.
        sessions: returns the number of live sessions.
    """
    registry = CollectorRegistry()
    registry.register(_Jobs(store, sessions))
    return registry


class _Jobs(Collector):
    def __init__(self, store: JobStore, sessions: Callable[[], int]) -> None:
        self._store, self._sessions = store, sessions

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the store is not asked before there is a request."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        yield GaugeMetricFamily("lipsync_web_sessions", "live sessions", self._sessions())
        try:
            jobs, counters = self._store.open_jobs(), self._store.counters()
        except StoreUnreachable:
            yield GaugeMetricFamily("lipsync_jobs_store_up", "whether the store answers", 0)
            return
        yield GaugeMetricFamily("lipsync_jobs_store_up", "whether the store answers", 1)
        number = GaugeMetricFamily("lipsync_jobs", "jobs that are open", labels=["status"])
        for status, (count, _) in jobs.items():
            number.add_metric([status], count)
        yield number
        oldest = jobs["waiting"][1]
        age = GaugeMetricFamily(
            "lipsync_jobs_oldest_waiting_seconds",
            "age of the oldest job that waits",
            max(0.0, now() - oldest) if oldest is not None else 0.0,
        )
        yield age
        for name, text in _COUNTERS.items():
            yield CounterMetricFamily(f"lipsync_jobs_{name}", text, counters.get(name, 0))
        ends = CounterMetricFamily("lipsync_jobs_ended", "jobs that have ended", labels=["status"])
        for end in _ENDS:
            ends.add_metric([end], counters.get(end, 0))
        yield ends
        calls = CounterMetricFamily("lipsync_jobs_webhooks", "webhook calls", labels=["result"])
        for result in _CALLS:
            calls.add_metric([result], counters.get(f"webhooks_{result}", 0))
        yield calls
