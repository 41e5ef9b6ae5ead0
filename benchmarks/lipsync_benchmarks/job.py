"""A way to make frames, run in a process of its own so that its memory and CPU time are its own.

The parent starts `python -m lipsync_benchmarks.job FD` and sends a Job through the connection at FD. It
receives None when the job is prepared, and then an Outcome for each run that it requests. An exception is
received as text.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Protocol

import psutil


@dataclass
class Outcome:
    """The result of one run.

    Attributes:
        frames: number of frames made.
        seconds: duration of the run.
        first_frame_s: time to the first frame; with several clips, to the first frame of the last clip.
        calls: (seconds, frames) of each call of the network or request to the server.
        output_statistics: mean, standard deviation, minimum and maximum of the network's outputs; None where
            the row does not see them.
        repeated: of the frames of live sessions, those that were repeated.
    """

    frames: int
    seconds: float
    first_frame_s: float
    calls: list[tuple[float, int]] = field(default_factory=list)
    output_statistics: tuple[float, float, float, float] | None = None
    repeated: int = 0


class Job(Protocol):
    """Work for a process of its own; made in the parent and sent to the child."""

    def prepare(self) -> None:
        """Do everything that is done once, before speech comes: loading, caching, a first call."""

    def run(self) -> Outcome:
        """Render one clip, or several."""


class JobError(Exception):
    """The job's process failed; the message is its traceback."""


class JobProcess:
    """A job in its own process, for the length of a `with` block.

    Attributes:
        start_s: seconds from the launch until the job was prepared.
    """

    def __init__(self, job: Job) -> None:
        begun = time.perf_counter()
        self._connection, childs_end = Pipe()
        with childs_end:
            command = [sys.executable, "-m", "lipsync_benchmarks.job", str(childs_end.fileno())]
            # The job's class may come from anywhere on this process's path.
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            self._process = subprocess.Popen(
                command, pass_fds=[childs_end.fileno()], env=environment
            )
        try:
            self._connection.send(job)
            self._receive()
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
        self._process.kill()  # it has nothing to save
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
        """Run the job once.

        Args:
            between: called again and again during the run.
            every_s: seconds between two of these calls.
            changes: attributes of the job, set before the run.

        Raises:
            JobError: the job failed.
        """
        self._connection.send(changes)
        while between is not None and not self._connection.poll(every_s):
            between()
        outcome = self._receive()
        if outcome is None:
            raise JobError("the process sent no outcome")
        return outcome

    def _receive(self) -> Outcome | None:
        try:
            received: Outcome | str | None = self._connection.recv()
        except EOFError:
            raise JobError(f"the process ended with {self._process.wait()}") from None
        if isinstance(received, str):
            raise JobError(received)
        return received


def serve(connection: Connection) -> None:
    """Receive a job and run it for each request, until the parent closes the connection."""
    try:
        job = connection.recv()
        job.prepare()
        connection.send(None)
        while True:
            for name, value in connection.recv().items():
                setattr(job, name, value)
            connection.send(job.run())
    except EOFError:
        pass  # the parent needs no more runs
    except Exception:
        connection.send(traceback.format_exc())


if __name__ == "__main__":
    # The parent knows these classes under this module's name, not under __main__.
    from lipsync_benchmarks import job

    job.serve(Connection(int(sys.argv[1])))
