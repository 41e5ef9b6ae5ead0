"""A pipe as the destination of frames."""

from __future__ import annotations

import os
import select
import threading

from .._errors import OutputError, PipeClosed

_POLL_INTERVAL_S = 0.2


class Pipe:
    """A file descriptor that takes data at its reader's pace, until `stop` is called.

    Args:
        fd: the file descriptor.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._stopped = threading.Event()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def __str__(self) -> str:
        return "standard output"

    def write(self, data: bytes | memoryview) -> int:
        """Write all of `data` and return its length in bytes.

        Raises:
            PipeClosed: the reader closed its end, or `stop` was called.
            OutputError: the write failed for another reason.
        """
        rest = memoryview(data).cast("B")
        while rest:
            if self._stopped.is_set():
                raise PipeClosed("the write was stopped")
            if not self._poll.poll(_POLL_INTERVAL_S * 1000):
                continue
            try:
                # A write of this size never blocks when the pipe is ready, whatever the reader does.
                rest = rest[os.write(self._fd, rest[: select.PIPE_BUF]) :]
            except BrokenPipeError as e:
                raise PipeClosed(f"the reader of {self} closed it") from e
            except OSError as e:
                raise OutputError(f"{self} cannot be written: {e.strerror}") from e
        return len(data)

    def stop(self) -> None:
        """End a write that waits for the reader; it may run in another thread."""
        self._stopped.set()
