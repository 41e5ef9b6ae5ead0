"""One way to make frames, run in a process of its own so that its memory and CPU time are its own.

The parent starts `python bench_job.py FD`, sends a Job through the connection at FD, gets None when it is
ready, and then an Outcome for every run asked for. An exception comes back as text.
"""

from __future__ import annotations

import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Protocol

import psutil


@dataclass
class Outcome:
    """What one run came to.

    Attributes:
        frames: made.
        seconds: it took.
        first_frame_s: until the first frame was there; of several clips, the last one's.
        calls: (seconds, frames) of each call of the network or the server, where the row has such.
        numbers: mean, standard deviation, least and most of the network's outputs, where it shows them.
    """

    frames: int
    seconds: float
    first_frame_s: float
    calls: list[tuple[float, int]] = field(default_factory=list)
    numbers: tuple[float, float, float, float] | None = None


class Job(Protocol):
    """Work that a process does; made in the parent, sent to the child."""

    def prepare(self) -> None:
        """Everything that is done once, before speech comes: loading, caching, a first call."""

    def run(self) -> Outcome:
        """One clip, or several."""


class JobError(Exception):
    """The job's process failed; the message is its traceback."""


class JobProcess:
    """A job in its own process, for the length of a `with` block.

    Attributes:
        start_s: seconds from its launch until it was ready.
    """

    def __init__(self, job: Job) -> None:
        begun = time.perf_counter()
        self._connection, theirs = Pipe()
        with theirs:
            command = [sys.executable, "-m", "lipsync_benchmarks.job", str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        try:
            self._connection.send(job)
            self._answer()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.start_s = time.perf_counter() - begun

    def __enter__(self) -> JobProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()
        self._process.kill()  # it holds nothing but memory
        self._process.wait()

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self._process.pid)

    def run(
        self,
        between: Callable[[], object] | None = None,
        every_s: float = 0.25,
        **changes: object,
    ) -> Outcome:
        """One run.

        Args:
            between: called now and then while it lasts.
            every_s: how often.
            changes: attributes of the job, set before the run.

        Raises:
            JobError: it failed.
        """
        self._connection.send(changes)
        while between is not None and not self._connection.poll(every_s):
            between()
        result = self._answer()
        assert isinstance(result, Outcome)
        return result

    def _answer(self) -> Any:
        try:
            answer = self._connection.recv()
        except EOFError:
            raise JobError(f"the process ended with {self._process.wait()}") from None
        if isinstance(answer, str):
            raise JobError(answer)
        return answer


def _serve(connection: Connection) -> None:
    try:
        job = connection.recv()
        job.prepare()
        connection.send(None)
        while True:
            for name, value in connection.recv().items():
                setattr(job, name, value)
            connection.send(job.run())
    except EOFError:
        pass  # the parent needs no more
    except Exception:
        connection.send(traceback.format_exc())


if __name__ == "__main__":
    # The parent knows these classes by their module's name, not as __main__.
    from lipsync_benchmarks import job

    job._serve(Connection(int(sys.argv[1])))
