"""lipsync-client live."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

from .. import AsyncLipSyncClient
from .._errors import InputError, LipSyncError
from .._live.session import LiveOptions, LiveSession
from .._output.files import check_output_path, is_pipe, open_output_path
from .._output.formats import STDOUT, FormatError
from .._output.live import CONTAINERS, LiveWriter, container_for, is_url
from .._output.pipe import Pipe
from .._render import RenderOptions
from .common import (
    Connection,
    avatar_option,
    failures,
    json_option,
    repository_option,
    run,
    server,
    url_option,
)

_SAMPLES = {"s16le": "<i2", "f32le": "<f4"}
_BLOCKS_A_SECOND = 50


@click.command()
@click.argument("source", default="-", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "-o", "--output", required=True,
    help="- (stdout), a file (.ts .mp4 .mkv .flv), or rtmp://, udp://, tcp://.",
)  # fmt: skip
@click.option(
    "--container", type=click.Choice(CONTAINERS), help="Instead of the one that OUTPUT asks for."
)
@avatar_option
@url_option
@repository_option
@click.option("--force", is_flag=True, help="Replace what is there.")
@json_option
@click.option("--rate", default=16000, help="Hz of SOURCE.")
@click.option("--channels", default=1, help="Of SOURCE.")
@click.option("--sample-format", type=click.Choice(list(_SAMPLES)), default="s16le")
@click.option(
    "--chunk", type=click.IntRange(min=1), default=LiveOptions.chunk, help="Frames a request."
)
@click.option(
    "--margin", type=click.FloatRange(0.0, 10.0), default=LiveOptions.margin_s,
    help="Seconds the server has for a chunk; they add to the latency.",
)  # fmt: skip
@click.option(
    "--jitter", type=click.FloatRange(0.0, 10.0), default=LiveOptions.jitter_s,
    help="Seconds by which sound may come late; they add to the latency.",
)  # fmt: skip
@click.option("--crf", type=click.IntRange(0, 51), help="Quality; the server's if not given.")
@click.option("--preset", help="x264 preset; the server's if not given.")
def live(
    source: Path,
    output: str,
    container: str | None,
    avatar: str,
    connection: Connection,
    repository: Path,
    force: bool,
    as_json: bool,
    rate: int,
    channels: int,
    sample_format: str,
    chunk: int,
    margin: float,
    jitter: float,
    **given: Any,
) -> None:
    """Make the avatar speak what comes in on SOURCE (raw PCM, - is stdin), as it comes.

    Without sound the avatar rests, its mouth closed. Ends when SOURCE ends, or with Ctrl-C; the file is
    complete then too. SIGUSR1 interrupts: what is queued is dropped.

    \b
    ffmpeg -re -i talk.mp3 -f s16le -ar 16000 -ac 1 - |
        lipsync-client live --avatar demo -o rtmp://example.org/live/key
    """
    options = {name: value for name, value in given.items() if value is not None}
    settings = LiveOptions(
        rate=rate, channels=channels, chunk=chunk, margin_s=margin, jitter_s=jitter
    )
    try:
        kind = container_for(output, container)
    except FormatError as e:
        raise click.UsageError(str(e)) from e
    if output == str(STDOUT) and sys.stdout.isatty():
        raise click.UsageError("stdout is a terminal: -o - is for a pipe")

    async def work(client: AsyncLipSyncClient) -> LiveSession:
        async with client.live(avatar, RenderOptions(encoder_options=options), settings) as session:
            with _target(output, force) as target:
                await _run(session, source, sample_format, LiveWriter(target, kind, rate, channels))
        return session

    with failures(), server(connection, repository, avatar) as where:
        session = run(where, work)
    click.echo(_words(output, session, as_json), err=output == str(STDOUT))


@contextmanager
def _target(output: str, force: bool) -> Iterator[Path | str | Pipe]:
    if is_url(output):
        yield output
        return
    path = Path(output)
    if not is_pipe(path):
        check_output_path(path, force=force)
    with open_output_path(path, force=force) as target:
        yield target


async def _run(session: LiveSession, source: Path, sample_format: str, writer: LiveWriter) -> None:
    """Sound in and frames out until one of them ends."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    failed: list[LipSyncError] = []

    def stop() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):  # a second one ends it at once
            loop.remove_signal_handler(number)
        stopping.set()

    def ended(error: LipSyncError | None) -> None:
        if error is not None:
            failed.append(error)
        session.finish()

    async def frames() -> None:
        resting: bool | None = None
        async for frame in session:
            if frame.idle != resting:
                resting = frame.idle
                click.echo(
                    f"{frame.index / 25:9.2f} s {'idle' if resting else 'speaking'}", err=True
                )
            await asyncio.to_thread(writer.write, frame)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGUSR1, session.interrupt)
    reader = threading.Thread(
        target=_read, args=(session, source, sample_format, loop, ended), daemon=True
    )
    reader.start()
    giving = asyncio.create_task(frames())
    stopped = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({giving, stopped}, return_when=asyncio.FIRST_COMPLETED)
        await session.close()
        await giving
        if failed:
            raise failed[0]
        await asyncio.to_thread(writer.close)
    except BaseException:
        giving.cancel()
        await asyncio.gather(giving, return_exceptions=True)
        writer.abort()
        raise
    finally:
        stopped.cancel()


def _read(
    session: LiveSession,
    source: Path,
    sample_format: str,
    loop: asyncio.AbstractEventLoop,
    ended: Any,
) -> None:
    """Feed the session from a file or a pipe, in a thread of its own: a read cannot be called off."""
    dtype, channels = np.dtype(_SAMPLES[sample_format]), session.live.channels
    size = dtype.itemsize * channels
    block = max(1, session.live.rate // _BLOCKS_A_SECOND) * size
    rest, error = b"", None
    try:
        fd = sys.stdin.fileno() if source == STDOUT else os.open(source, os.O_RDONLY)
        while data := os.read(fd, block):
            data = rest + data
            whole = len(data) // size * size
            rest = data[whole:]
            samples = np.frombuffer(data[:whole], dtype).reshape(-1, channels)
            asyncio.run_coroutine_threadsafe(session.feed(samples), loop).result()
        if rest:
            error = InputError(f"{source} ends in the middle of a sample of {size} bytes")
    except OSError as e:
        error = InputError(f"{source}: {e.strerror}")
    except LipSyncError as e:
        error = InputError(f"{source}: {e}")
    except (RuntimeError, asyncio.CancelledError, concurrent.futures.CancelledError):
        return  # the session is over
    if not loop.is_closed():
        loop.call_soon_threadsafe(ended, error)


def _words(output: str, session: LiveSession, as_json: bool) -> str:
    figures = {"output": output, **session.report.as_dict()}
    if as_json:
        return json.dumps(figures)
    latency = figures["latency_s"]
    spread = (
        "" if latency["p50"] is None
        else f"; sample to frame p50 {latency['p50']:.2f} s, p95 {latency['p95']:.2f} s,"
        f" p99 {latency['p99']:.2f} s"
    )  # fmt: skip
    return (
        f"{output}: {figures['frames']} frames in {figures['seconds']:.1f} s, {figures['idle']} at rest,"
        f" {figures['repeated']} without a picture of their own{spread}"
    )
