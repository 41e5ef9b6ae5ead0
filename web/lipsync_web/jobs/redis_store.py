"""The records of jobs in Redis, for workers on many machines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from .job import OPEN, Job, Status
from .store import StoreUnreachable, TooManyJobs

T = TypeVar("T")
_PREFIX = "lipsync:"
# Calls wait for a Redis that restarts: 0.05 s, 0.1 s, ... 2 s, together half a minute.
_RETRIES, _LONGEST_WAIT_S = 20, 2.0
_TIMEOUT_S = 20.0

# One script for all changes, so that each is made at once or not at all. An empty `old` means that there is
# no record yet, an empty `new` that there will be none. A change that was made already counts as made: the
# reply to it may have been lost with the connection.
_CHANGE = """
local id, old, new, caller, key = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local status, created, due = ARGV[6], ARGV[7], ARGV[8]
local prefix = KEYS[1]
local record, own = prefix .. 'job:' .. id, prefix .. 'open:' .. caller
local named = prefix .. 'key:' .. caller .. ':' .. key
local current = redis.call('GET', record) or ''
if current == new then return 'done' end
if old == '' then
  if key ~= '' then
    local other = redis.call('GET', named)
    local found = other and redis.call('GET', prefix .. 'job:' .. other)
    if found then return found end
  end
  local open = redis.call('ZCARD', prefix .. 'waiting') + redis.call('ZCARD', prefix .. 'running')
  if open >= tonumber(ARGV[9]) then return 'full' end
  if redis.call('SCARD', own) >= tonumber(ARGV[10]) then return 'caller full' end
end
if current ~= old then return 'changed' end
redis.call('ZREM', prefix .. 'waiting', id)
redis.call('ZREM', prefix .. 'running', id)
redis.call('SREM', own, id)
if new == '' then
  redis.call('DEL', record)
  redis.call('ZREM', prefix .. 'due', id)
else
  redis.call('SET', record, new)
  redis.call('ZADD', prefix .. 'due', due, id)
  if status == 'waiting' or status == 'running' then
    redis.call('ZADD', prefix .. status, created, id)
    redis.call('SADD', own, id)
  end
end
if key ~= '' then
  if new == '' or status == 'deleted' then redis.call('DEL', named) else redis.call('SET', named, id) end
end
return 'done'
"""


def connection_options() -> dict[str, Any]:
    """Return the options of connections that wait for a Redis that restarts."""
    return {
        "retry": Retry(ExponentialBackoff(cap=_LONGEST_WAIT_S, base=0.05), _RETRIES),
        "retry_on_error": [redis.ConnectionError, redis.TimeoutError],
        "socket_timeout": _TIMEOUT_S,
        "socket_connect_timeout": _TIMEOUT_S,
    }


class RedisStore:
    """A `JobStore` in Redis.

    Args:
        url: `redis://` or `rediss://` with host, port and number of the database.
    """

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url, decode_responses=True, **connection_options())
        self._script = self._redis.register_script(_CHANGE)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def add(self, job: Job, max_open: int, max_caller: int) -> Job:
        """Keep a new job; see JobStore."""
        result = self._change(job, "", job.to_json(), max_open, max_caller)
        if result in ("full", "caller full"):
            raise TooManyJobs(caller=result == "caller full")
        return job if result == "done" else Job.from_json(result)

    def get(self, key: str) -> Job | None:
        """Return a job."""
        body = self._call(lambda: self._redis.get(f"{_PREFIX}job:{key}"))
        return None if body is None else Job.from_json(str(body))

    def swap(self, old: Job, new: Job) -> bool:
        """Replace a record if it is still `old`."""
        return self._change(new, old.to_json(), new.to_json()) == "done"

    def remove(self, job: Job) -> bool:
        """Remove a record if it is still `job`."""
        return self._change(job, job.to_json(), "") == "done"

    def due(self, time_s: float, limit: int) -> list[str]:
        """Return the jobs that a sweep must look at by now."""
        name = f"{_PREFIX}due"
        found = self._call(lambda: self._redis.zrangebyscore(name, "-inf", time_s, 0, limit))
        return [str(key) for key in found]

    def all_ids(self) -> set[str]:
        """Return all jobs."""
        return {str(key) for key in self._call(lambda: self._redis.zrange(f"{_PREFIX}due", 0, -1))}

    def open_jobs(self) -> dict[Status, tuple[int, float | None]]:
        """Return the number of waiting and running jobs, and the age of the oldest."""
        return {status: self._number_and_oldest(f"{_PREFIX}{status}") for status in OPEN}

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a counter."""
        self._call(lambda: self._redis.hincrby(f"{_PREFIX}counters", name, amount))

    def counters(self) -> dict[str, int]:
        """Return all counters."""
        found: Any = self._call(lambda: self._redis.hgetall(f"{_PREFIX}counters"))
        return {name: int(value) for name, value in found.items()}

    def _number_and_oldest(self, name: str) -> tuple[int, float | None]:
        number = self._call(lambda: self._redis.zcard(name))
        oldest: Any = self._call(lambda: self._redis.zrange(name, 0, 0, withscores=True))
        return int(number), float(oldest[0][1]) if oldest else None

    def _change(self, job: Job, old: str, new: str, max_open: int = 0, max_caller: int = 0) -> str:
        values = (
            job.id, old, new, job.caller, job.key or "", job.status, job.created, job.due,
            max_open, max_caller,
        )  # fmt: skip
        return str(self._call(lambda: self._script(keys=[_PREFIX], args=list(values))))

    def _call(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except (redis.ConnectionError, redis.TimeoutError) as e:
            raise StoreUnreachable(f"Redis does not answer: {e}") from e
