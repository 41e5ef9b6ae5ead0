"""The records of jobs in a SQLite database, for workers on one machine."""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .job import OPEN, Job, Status
from .store import StoreUnreachable, TooManyJobs

_SCHEMA = """
create table if not exists job (
    id text primary key, body text not null, status text not null, caller text not null, key text,
    created real not null, due real not null
);
create unique index if not exists job_key on job (caller, key) where key is not null;
create index if not exists job_due on job (due);
create index if not exists job_status on job (status, caller);
create table if not exists job_counter (name text primary key, value integer not null);
"""
_LOCK_TIMEOUT_S = 30.0


class SqliteStore:
    """A `JobStore` in a SQLite file, which the queue uses too.

    Args:
        path: the file; it is created.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        with self._transaction() as db:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()

    def add(self, job: Job, max_open: int, max_caller: int) -> Job:
        """Keep a new job; see JobStore."""
        with self._transaction() as db:
            found = db.execute(
                "select body from job where caller = ? and key = ?", (job.caller, job.key)
            ).fetchone()
            if found is not None:
                return Job.from_json(found[0])
            is_open = f"status in {OPEN}"
            if _number(db, f"select count(*) from job where {is_open}") >= max_open:
                raise TooManyJobs(caller=False)
            mine = f"select count(*) from job where {is_open} and caller = ?"
            if _number(db, mine, job.caller) >= max_caller:
                raise TooManyJobs(caller=True)
            row = (job.id, job.to_json(), job.status, job.caller, _key(job), job.created, _due(job))
            db.execute("insert into job values (?, ?, ?, ?, ?, ?, ?)", row)
        return job

    def get(self, key: str) -> Job | None:
        """Return a job."""
        rows = self._read("select body from job where id = ?", key)
        return Job.from_json(str(rows[0][0])) if rows else None

    def swap(self, old: Job, new: Job) -> bool:
        """Replace a record if it is still `old`."""
        with self._transaction() as db:
            done = db.execute(
                "update job set body = ?, status = ?, due = ?, key = ? where id = ? and body = ?",
                (new.to_json(), new.status, _due(new), _key(new), old.id, old.to_json()),
            )
            return done.rowcount == 1

    def remove(self, job: Job) -> bool:
        """Remove a record if it is still `job`."""
        with self._transaction() as db:
            done = db.execute("delete from job where id = ? and body = ?", (job.id, job.to_json()))
            return done.rowcount == 1

    def due(self, time_s: float, limit: int) -> list[str]:
        """Return the jobs that a sweep must look at by now."""
        sql = "select id from job where due <= ? order by due limit ?"
        return [str(row[0]) for row in self._read(sql, time_s, limit)]

    def all_ids(self) -> set[str]:
        """Return all jobs."""
        return {str(row[0]) for row in self._read("select id from job")}

    def open_jobs(self) -> dict[Status, tuple[int, float | None]]:
        """Return the number of waiting and running jobs, and the age of the oldest."""
        sql = "select count(*), min(created) from job where status = ?"
        return {status: self._read(sql, status)[0] for status in OPEN}  # type: ignore[misc]

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a counter."""
        with self._transaction() as db:
            db.execute(
                "insert into job_counter values (?, ?)"
                " on conflict (name) do update set value = value + excluded.value",
                (name, amount),
            )

    def counters(self) -> dict[str, int]:
        """Return all counters."""
        rows = self._read("select name, value from job_counter")
        return {str(name): int(str(value)) for name, value in rows}

    def _read(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        try:
            return self._connection().execute(sql, values).fetchall()
        except sqlite3.OperationalError as e:
            raise StoreUnreachable(f"{self._path}: {e}") from e

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection within a transaction that no other overlaps."""
        try:
            connection = self._connection()
            connection.execute("begin immediate")
        except sqlite3.OperationalError as e:
            raise StoreUnreachable(f"{self._path}: {e}") from e
        try:
            yield connection
        except BaseException:
            connection.rollback()
            raise
        connection.commit()

    def _connection(self) -> sqlite3.Connection:
        """Return this thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self._path, timeout=_LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = full")
            self._local.connection = connection
            self._connections.append(connection)
        return connection


def _number(db: sqlite3.Connection, sql: str, *values: object) -> int:
    return int(db.execute(sql, values).fetchone()[0])


def _due(job: Job) -> float:
    return min(job.due, 1e15) if math.isinf(job.due) else job.due


def _key(job: Job) -> str | None:
    """Return the key, which a deleted job leaves to others."""
    return None if job.status == "deleted" else job.key
