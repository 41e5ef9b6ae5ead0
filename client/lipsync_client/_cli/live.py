"""lipsync-client live."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from .. import AsyncLipSyncClient
from .._errors import LipSyncError
from .._live.options import LiveOptions
from .._live.report import LiveReport
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
from .recording import SAMPLE_FORMATS, Recording, check_source


@click.command()
@click.argument("source", default="-", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "-o", "--output", required=True,
    help="- (stdout), a file (.ts .mp4 .mkv .flv), or rtmp://, udp://, tcp://.",
)  # fmt: skip
@click.option(
    "--container", type=click.Choice(CONTAINERS), help="The container, if OUTPUT does not say it."
)
@avatar_option
@url_option
@repository_option
@click.option("--force", is_flag=True, help="Replace an existing file.")
@json_option
@click.option("--rate", default=16000, help="Sample rate of SOURCE in Hz.")
@click.option("--channels", default=1, help="Number of channels of SOURCE.")
@click.option("--sample-format", type=click.Choice(list(SAMPLE_FORMATS)), default="s16le")
@click.option(
    "--chunk", type=click.IntRange(min=1), default=LiveOptions.chunk,
    help="Most frames per request.",
)  # fmt: skip
@click.option(
    "--margin", type=click.FloatRange(0.0, 10.0), default=LiveOptions.margin_s,
    help="Seconds added to the time that the server takes; they add to the latency.",
)  # fmt: skip
@click.option(
    "--reconnect-timeout", type=click.FloatRange(0.1), default=LiveOptions.reconnect_timeout_s,
    help="Longest time in seconds without any response from the server.",
)  # fmt: skip
@click.option("--crf", type=click.IntRange(0, 51), help="H.264 quality; the server's by default.")
@click.option("--preset", help="x264 preset; the server's by default.")
def live(
    source: Path,
    output: str,
    container: str | None,
    avatar: str,
    connection: Connection,
    repository: Path | None,
    force: bool,
    as_json: bool,
    rate: int,
    channels: int,
    sample_format: str,
    chunk: int,
    margin: float,
    reconnect_timeout: float,
    **encoder_options: Any,
) -> None:
    """Make the avatar speak the audio of SOURCE (raw PCM, - is stdin) as it comes.

    Without audio the avatar is idle, its mouth closed. The command ends when SOURCE ends, or with Ctrl-C. The
    output is complete then, and also after an error. SIGUSR1 interrupts: the audio that is queued is dropped.

    \b
    ffmpeg -re -i talk.mp3 -f s16le -ar 16000 -ac 1 - |
        lipsync-client live --avatar demo -o rtmp://example.org/live/key
    """
    signal.signal(
        signal.SIGUSR1, signal.SIG_IGN
    )  # nothing is said yet, so there is no reply to end
    options = RenderOptions(
        encoder_options={k: v for k, v in encoder_options.items() if v is not None}
    )
    try:
        name = container_for(output, container)
    except FormatError as e:
        raise click.UsageError(str(e)) from e
    if output == str(STDOUT) and sys.stdout.isatty():
        raise click.UsageError("stdout is a terminal: -o - is for a pipe")

    async def work(client: AsyncLipSyncClient) -> tuple[LiveReport, LipSyncError | None]:
        settings = LiveOptions(
            rate=rate,
            channels=channels,
            chunk=chunk,
            margin_s=margin,
            reconnect_timeout_s=reconnect_timeout,
        )
        async with client.live(avatar, options, settings) as session:
            with _target(output, force) as target:
                recording = Recording(session, output, remote=is_url(output))
                error = await recording.run(
                    source, sample_format, lambda: LiveWriter(target, name, rate, channels)
                )
                return session.report, error

    with failures():
        check_source(source)
        with server(connection, repository, avatar) as where:
            report, error = run(where, work)
            click.echo(_summary(output, report, as_json), err=output == str(STDOUT))
            if error is not None:
                raise error


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


def _summary(output: str, report: LiveReport, as_json: bool) -> str:
    figures = {"output": output, **report.as_dict()}
    if as_json:
        return json.dumps(figures)
    latency = figures["latency_s"]
    spread = (
        "" if latency["p50"] is None
        else f"; sample to frame p50 {latency['p50']:.2f} s, p95 {latency['p95']:.2f} s,"
        f" p99 {latency['p99']:.2f} s"
    )  # fmt: skip
    return (
        f"{output}: {figures['frames']} frames in {figures['seconds']:.1f} s, {figures['idle']} idle,"
        f" {figures['repeated']} repeated{spread}"
    )
