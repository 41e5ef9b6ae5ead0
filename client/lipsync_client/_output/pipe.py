"""A pipe as the place of a result."""

from __future__ import annotations

import errno
import os
import select
import threading
from pathlib import Path

from .._errors import OutputError, PipeClosed

_POLL_INTERVAL_S = 0.2


class Pipe:
    """A pipe or a device that takes data at its reader's pace, until `stop` is called.

    Args:
        target: an open file descriptor, of standard output; or the path of a FIFO or of a device, which is
            opened by the first write, as soon as a FIFO has a reader.
    """

    def __init__(self, target: int | Path) -> None:
        self._target = target
        self._fd: int | None = target if isinstance(target, int) else None
        self._stopped = threading.Event()

    def __str__(self) -> str:
        return str(self._target) if isinstance(self._target, Path) else "standard output"

    def write(self, data: bytes | memoryview) -> int:
        """Write all of `data` and return its length in bytes.

        Raises:
            PipeClosed: the reader closed its end, or `stop` was called.
            OutputError: the write failed for another reason.
        """
        rest = memoryview(data).cast("B")
        try:
            fd = self._open()
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            while rest:
                self._check_stopped()
                if not poll.poll(_POLL_INTERVAL_S * 1000):
                    continue
                # A write of this size never blocks when the pipe is ready, whatever the reader does.
                rest = rest[os.write(fd, rest[: select.PIPE_BUF]) :]
        except BrokenPipeError as e:
            raise PipeClosed(f"the reader of {self} closed it") from e
        except OSError as e:
            raise OutputError(f"{self} cannot be written: {e.strerror}") from e
        return len(data)

    def stop(self) -> None:
        """End a write that waits for the reader; it may run in another thread."""
        self._stopped.set()

    def close(self) -> None:
        """Close what the first write opened."""
        if self._fd is not None and isinstance(self._target, Path):
            os.close(self._fd)
            self._fd = None

    def _open(self) -> int:
        while self._fd is None:
            self._check_stopped()
            try:
                self._fd = os.open(str(self._target), os.O_WRONLY | os.O_NONBLOCK)
            except OSError as e:
                if e.errno != errno.ENXIO:  # a FIFO without a reader
                    raise
                self._stopped.wait(_POLL_INTERVAL_S)
        return self._fd

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise PipeClosed("the write was stopped")
