"""The work of `lipsync-client live`: read audio, write frames, obey signals."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from .._errors import InputError, LipSyncError, OutputError
from .._live.session import LiveSession
from .._output.formats import STDOUT
from .._output.live import LiveWriter
from .._output.worker import Worker
from ..protocol import FPS

SAMPLE_FORMATS = {"s16le": "<i2", "f32le": "<f4"}
_BLOCKS_PER_SECOND = 50
_STOPS = (signal.SIGINT, signal.SIGTERM)
_LAST_WRITE_S = 5.0  # longest wait for the output at the end


class Recording:
    """A session that speaks what a file or a pipe holds, and is written as it comes.

    SIGINT and SIGTERM end it, with a complete output; a second one ends the process. SIGUSR1 interrupts the
    reply.

    Args:
        session: to feed, and to take the frames of.
        target: name of the output, for messages.
        remote: the output is a network address. FFmpeg connects to it with the first frame, and holds
            Python's lock while it waits for the host: until then SIGINT and SIGTERM end the process.
    """

    def __init__(self, session: LiveSession, target: str, *, remote: bool) -> None:
        self._session, self._target, self._remote = session, target, remote
        self._stopping = asyncio.Event()
        self._worker = Worker()

    async def run(
        self, source: Path, sample_format: str, open_writer: Callable[[], LiveWriter]
    ) -> LipSyncError | None:
        """Record until the source ends or a signal comes.

        Args:
            source: path, or "-" for standard input.
            sample_format: one of SAMPLE_FORMATS.
            open_writer: opens the output.

        Returns:
            The error that ended it early; what was recorded until then is complete.

        Raises:
            LipSyncError: nothing was recorded.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self._session.interrupt)
        if self._remote:
            for number in _STOPS:
                signal.signal(number, signal.SIG_DFL)
        else:
            self._stop_on_signals()
        try:
            writer = await self._worker.call(open_writer)
            threading.Thread(
                target=read_samples, args=(self._session, source, sample_format, loop), daemon=True
            ).start()
            error = await self._write_frames(writer)
            error = await self._close(writer) or error
        finally:
            self._worker.close()
            loop.remove_signal_handler(signal.SIGUSR1)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # it would kill the process from here on
        if error is not None and not writer.frames:
            raise error
        return error

    async def _write_frames(self, writer: LiveWriter) -> LipSyncError | None:
        """Write frames until they end or a signal comes; return the error that ended them."""
        writing = asyncio.create_task(self._frames(writer))
        stopped = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({writing, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        await self._session.close()
        try:
            await asyncio.wait_for(writing, _LAST_WRITE_S)
        except (LipSyncError, asyncio.TimeoutError) as e:
            return self._to_error(e)
        return None

    async def _frames(self, writer: LiveWriter) -> None:
        idle: bool | None = None
        async for frame in self._session:
            if frame.idle != idle:
                idle = frame.idle
                state = "idle" if idle else "speaking"
                click.echo(f"{frame.index / FPS:9.2f} s {state}", err=True)
            await self._worker.call(writer.write, frame)
            if self._remote and writer.frames == 1:
                self._stop_on_signals()

    async def _close(self, writer: LiveWriter) -> LipSyncError | None:
        """Finish the output; return the error if that fails."""
        try:
            await asyncio.wait_for(self._worker.call(writer.close), _LAST_WRITE_S)
        except (LipSyncError, asyncio.TimeoutError) as e:
            self._worker.call(writer.abort)
            return self._to_error(e)
        return None

    def _stop_on_signals(self) -> None:
        for number in _STOPS:
            asyncio.get_running_loop().add_signal_handler(number, self._stop)

    def _stop(self) -> None:
        for number in _STOPS:
            asyncio.get_running_loop().remove_signal_handler(number)
        self._stopping.set()

    def _to_error(self, error: BaseException) -> LipSyncError:
        if isinstance(error, LipSyncError):
            return error
        return OutputError(f"{self._target} has taken no data for {_LAST_WRITE_S:.0f} s")


def check_source(source: Path) -> None:
    """Check that a file can be read; a pipe, which might wait for its writer, is left alone.

    Raises:
        InputError: it cannot.
    """
    try:
        if source != STDOUT and not source.is_fifo():
            source.open("rb").close()
    except OSError as e:
        raise InputError(f"{source}: {e.strerror}") from e


def read_samples(
    session: LiveSession, source: Path, sample_format: str, loop: asyncio.AbstractEventLoop
) -> None:
    """Feed a session from a file or a pipe, in a thread of its own: a read cannot be cancelled.

    Bytes at the end that are no whole sample are left out.

    Args:
        session: to feed; it is finished at the end.
        source: path, or "-" for standard input.
        sample_format: one of SAMPLE_FORMATS.
        loop: that the session runs in.
    """
    dtype, channels = np.dtype(SAMPLE_FORMATS[sample_format]), session.options.channels
    size = dtype.itemsize * channels
    block = max(1, session.options.rate // _BLOCKS_PER_SECOND) * size
    rest, error = b"", None
    try:
        fd = sys.stdin.fileno() if source == STDOUT else os.open(source, os.O_RDONLY)
        while data := os.read(fd, block):
            data = rest + data
            whole = len(data) // size * size
            rest = data[whole:]
            samples = np.frombuffer(data[:whole], dtype).reshape(-1, channels)
            asyncio.run_coroutine_threadsafe(session.feed(samples), loop).result()
    except OSError as e:
        error = InputError(f"{source}: {e.strerror}")
    except LipSyncError as e:
        error = InputError(f"{source}: {e}")
    except (RuntimeError, asyncio.CancelledError, concurrent.futures.CancelledError):
        return  # the session is over

    def end() -> None:
        if error is None:
            session.finish()
        else:
            session.fail(error)

    if not loop.is_closed():
        loop.call_soon_threadsafe(end)
