"""The command `lipsync-client render`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .. import AsyncLipSyncClient, OutputFormat, RenderOptions, RenderSummary
from .._output.formats import (
    AUDIO_MODES,
    CONTAINERS,
    FOLDERS,
    RAW,
    STDOUT,
    AudioMode,
    FormatName,
)
from .._output.to_file import check_render
from .common import (
    Connection,
    avatar_option,
    failures,
    json_option,
    progress,
    repository_option,
    run,
    server,
    url_option,
)
from .spool import as_file


@click.command()
@click.argument("audio", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    help="File to write. Its suffix names the format: .mp4 .ts .mkv .webm .gif .webp."
    " - is standard output.",
)
@click.option(
    "--frames-dir",
    type=click.Path(path_type=Path),
    help="Folder to write images to, instead of -o.",
)
@click.option(
    "--container",
    type=click.Choice(CONTAINERS),
    help="Container, where the suffix does not name it. fmp4 is fragmented MP4; fmp4 and ts can be"
    " written to standard output. webm is slow, because the client encodes VP9 from raw frames."
    " gif and webp are previews without audio.",
)
@click.option(
    "--format",
    "image_format",
    type=click.Choice([*FOLDERS, *RAW]),
    help="png (default) or jpg for --frames-dir; bgr24 or rgb24 writes raw frames to -o.",
)
@avatar_option
@url_option
@repository_option
@click.option(
    "--force", is_flag=True, help="Replace an existing file, or the images of an earlier render."
)
@json_option
@click.option(
    "--chunk",
    type=click.IntRange(min=1),
    help="Frames per request.  [default: the server's limit]",
)
@click.option(
    "--in-flight",
    type=click.IntRange(1, 64),
    help="Requests in flight at once.  [default: 3, and 2 more for each further server]",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=120.0,
    help="Longest wait for one request in seconds, retries included.",
)
@click.option(
    "--total-timeout",
    type=click.FloatRange(min=0.1),
    help="Longest time for the whole clip in seconds.  [default: no limit]",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Keep finished chunks beside the file until it is complete, and continue from those"
    " that an interrupted render left.",
)
@click.option(
    "--crf",
    type=click.IntRange(0, 63),
    help="Video quality, lower is better: 0 to 51 for H.264 [default: the server's],"
    " 0 to 63 for WebM [default: 32].",
)
@click.option("--preset", help="x264 preset.  [default: the server's]")
@click.option(
    "--keyint",
    type=click.IntRange(1, 1000),
    help="Largest number of frames from one keyframe to the next. Every request begins with a"
    " keyframe in any case.",
)
@click.option(
    "--audio",
    "audio_mode",
    type=click.Choice(AUDIO_MODES),
    default=OutputFormat.audio,
    help="auto keeps the clip's own audio packets where the container can hold them and browsers play"
    " them, and encodes AAC (Opus in WebM) otherwise; copy keeps the packets or fails; aac always"
    " encodes.",
)
@click.option(
    "--track",
    type=click.IntRange(min=1),
    help="Number of AUDIO's audio track, from 1.  [default: the one marked as default, or the first]",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Refuse AUDIO if a part of it cannot be decoded, instead of putting silence there with a"
    " warning.",
)
@click.option(
    "--fps",
    type=click.FloatRange(1, 25),
    default=OutputFormat.fps,
    help="Frames per second of a GIF or WebP.",
)
@click.option(
    "--width",
    type=click.IntRange(min=16),
    default=OutputFormat.width,
    help="Width of a GIF or WebP in pixels.",
)
def render(
    audio: Path,
    output: Path | None,
    frames_dir: Path | None,
    container: FormatName | None,
    image_format: FormatName | None,
    avatar: str,
    connection: Connection,
    repository: Path | None,
    force: bool,
    as_json: bool,
    chunk: int | None,
    in_flight: int | None,
    timeout: float,
    total_timeout: float | None,
    resume: bool,
    audio_mode: AudioMode,
    track: int | None,
    strict: bool,
    fps: float,
    width: int,
    **encoder_options: Any,
) -> None:
    """Render a video of the avatar speaking AUDIO.

    AUDIO is any audio or video file, or - for standard input.

    To write to standard output, give -o - with --container fmp4 or ts, or with --format bgr24 or rgb24.
    The summary goes to standard error then.
    """
    with failures():
        path, name = _target(output, frames_dir, container, image_format)
        output_format = OutputFormat(name, audio_mode, fps, width)
        options = RenderOptions(
            chunk=chunk,
            in_flight=in_flight,
            timeout_s=timeout,
            total_timeout_s=total_timeout,
            encoder_options={k: v for k, v in encoder_options.items() if v is not None},
            audio_track=track,
            strict=strict,
        )
        with as_file(audio) as clip:
            check_render(clip, path, output_format, options, force=force, resume=resume)

            async def work(
                client: AsyncLipSyncClient, report: Callable[[int, int | None], None]
            ) -> RenderSummary:
                return await client.render_to_file(
                    clip, path, avatar, options,
                    output_format=output_format, force=force, resume=resume, progress=report,
                )  # fmt: skip

            with server(connection, repository, avatar) as target, progress() as report:
                summary = run(target, lambda client: work(client, report))
    click.echo(_describe(summary, as_json), err=path == STDOUT)


def _target(
    output: Path | None,
    frames_dir: Path | None,
    container: FormatName | None,
    image_format: FormatName | None,
) -> tuple[Path, FormatName]:
    """Return the path of the result and the name of its format.

    Raises:
        click.UsageError: the options contradict one another.
        FormatError: the path's suffix names no format, and no option does.
    """
    if output == Path("/dev/stdout"):
        output = STDOUT
    path = output or frames_dir
    if path is None or (output is not None and frames_dir is not None):
        raise click.UsageError("name one place for the result: -o OUT.mp4 or --frames-dir DIR")
    if frames_dir is not None and (container is not None or image_format in RAW):
        raise click.UsageError("--frames-dir takes images: --format png or jpg")
    if output is not None and image_format in FOLDERS:
        raise click.UsageError(
            f"--format {image_format} needs --frames-dir; -o takes bgr24 or rgb24"
        )
    if image_format is not None and container is not None:
        raise click.UsageError("--format and --container exclude each other")
    if path == STDOUT and sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal: -o - is for a pipe or a file")
    name = image_format or container or ("png" if frames_dir else OutputFormat.name_for(path))
    return path, name


def _describe(summary: RenderSummary, as_json: bool) -> str:
    if not as_json:
        return (
            f"{summary.output}: {summary.frames} frames in {summary.seconds:.1f} s,"
            f" {summary.fps:.1f} FPS ({summary.realtime_factor:.2f} x real time),"
            f" first frame after {summary.first_frame_s:.2f} s"
        )
    return json.dumps(
        {
            "output": str(summary.output),
            "frames": summary.frames,
            "seconds": round(summary.seconds, 3),
            "fps": round(summary.fps, 2),
            "realtime_factor": round(summary.realtime_factor, 3),
            "first_frame_s": round(summary.first_frame_s, 3),
            "warnings": summary.warnings,
        }
    )
