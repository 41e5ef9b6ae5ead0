"""Standard output as a place for pictures."""

from __future__ import annotations

import os
import select
import threading

from .._errors import OutputError, PipeClosed

_LOOK_EVERY_S = 0.2


class Pipe:
    """Writes to a file descriptor, at the reader's pace, until it is told to stop.

    Args:
        fd: where to.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._stopped = threading.Event()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def __str__(self) -> str:
        return "standard output"

    def write(self, data: bytes | memoryview) -> int:
        """Write all of it.

        Raises:
            PipeClosed: nobody reads any more, or `stop` was called.
            OutputError: anything else.
        """
        rest = memoryview(data).cast("B")
        while rest:
            if self._stopped.is_set():
                raise PipeClosed("stopped")
            if not self._poll.poll(_LOOK_EVERY_S * 1000):
                continue
            try:
                # So much never blocks when there is room: a reader that hangs cannot hold us here.
                rest = rest[os.write(self._fd, rest[: select.PIPE_BUF]) :]
            except BrokenPipeError as e:
                raise PipeClosed("nobody reads standard output any more") from e
            except OSError as e:
                raise OutputError(f"standard output cannot be written: {e.strerror}") from e
        return len(data)

    def stop(self) -> None:
        """End a write that waits for its reader, in whatever thread it is."""
        self._stopped.set()
