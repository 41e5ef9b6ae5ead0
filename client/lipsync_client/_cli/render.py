"""lipsync-client render."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .. import AsyncLipSyncClient, OutputFormat, RenderOptions, RenderSummary
from .._output.formats import CONTAINERS, FOLDERS, RAW, SOUNDS, STDOUT, FormatError
from .._output.writers import check_sound
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

_ENCODING = ("crf", "preset", "keyint")  # these go with the request


@click.command()
@click.argument("audio", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="File to write; its suffix says what: .mp4 .ts .mkv .webm .gif .webp. - is stdout.",
)
@click.option(
    "--frames-dir", type=click.Path(path_type=Path, file_okay=False), help="Write pictures instead."
)
@click.option(
    "--container",
    type=click.Choice(CONTAINERS),
    help="Instead of the suffix's. fmp4 is MP4 in fragments; it and ts can go to stdout."
    " webm is slow: VP9 is encoded here, from raw frames. gif and webp are silent previews.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice([*FOLDERS, *RAW]),
    help="png (default) or jpg for --frames-dir; bgr24 or rgb24: raw frames, to -o FILE or -o -.",
)
@avatar_option
@url_option
@repository_option
@click.option("--force", is_flag=True, help="Replace what is there.")
@json_option
@click.option(
    "--chunk", type=click.IntRange(min=1), help="Frames a request; the server's limit if not given."
)
@click.option(
    "--in-flight",
    type=click.IntRange(1, 64),
    help="Requests under way at once; 3 if not given, and 2 more for each further server.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=120.0,
    help="Seconds to wait for a request, tries at other servers included.",
)
@click.option(
    "--total-timeout", type=click.FloatRange(min=0.1), help="Seconds the whole clip may take."
)
@click.option(
    "--resume",
    is_flag=True,
    help="Keep what is done beside the file until it is complete, and go on from what is there.",
)
@click.option(
    "--crf",
    type=click.IntRange(0, 63),
    help="Quality, lower is better: 0 to 51 for H.264, the server's if not given;"
    " 0 to 63 for WebM, 32 if not given.",
)
@click.option("--preset", help="x264 preset; the server's if not given.")
@click.option(
    "--keyint",
    type=click.IntRange(1, 1000),
    help="At most so many frames from one keyframe to the next. Each request begins with one anyway.",
)
@click.option(
    "--audio",
    "sound",
    type=click.Choice(SOUNDS),
    help="auto (default): the original sound if the container can hold it, else AAC, in WebM Opus."
    " copy: the original or an error.",
)
@click.option("--fps", type=click.FloatRange(1, 25), help="Of a GIF or WebP.  [default: 12.5]")
@click.option("--width", type=click.IntRange(min=16), help="Of a GIF or WebP.  [default: 480]")
def render(
    audio: Path,
    output: Path | None,
    frames_dir: Path | None,
    container: str | None,
    kind: str | None,
    avatar: str,
    connection: Connection,
    repository: Path,
    force: bool,
    as_json: bool,
    chunk: int | None,
    in_flight: int | None,
    timeout: float,
    total_timeout: float | None,
    resume: bool,
    sound: str | None,
    **given: Any,
) -> None:
    """Make the avatar speak AUDIO: any audio or video file.

    To stdout: -o - with --container fmp4 or ts, or with --format bgr24 or rgb24. What would be said there
    goes to stderr then.
    """
    given = {name: value for name, value in given.items() if value is not None}
    target, form = _target(output, frames_dir, container, kind, sound, given)
    if target == STDOUT and resume:
        raise click.UsageError("what goes to stdout cannot be resumed: -o FILE")
    options = {name: given[name] for name in _ENCODING if name in given}
    plan = RenderOptions(
        chunk=chunk,
        in_flight=in_flight,
        timeout_s=timeout,
        total_timeout_s=total_timeout,
        encoder_options=options,
    )

    async def work(
        client: AsyncLipSyncClient, report: Callable[[int, int | None], None]
    ) -> RenderSummary:
        return await client.render_to_file(
            audio, target, avatar, plan,
            output_format=form, force=force, resume=resume, progress=report,
        )  # fmt: skip

    with failures():
        try:
            check_sound(audio, form)
        except FormatError as e:
            raise click.UsageError(str(e)) from e
        with server(connection, repository, avatar) as where, progress() as report:
            summary = run(where, lambda client: work(client, report))
    click.echo(_words(summary, as_json), err=target == STDOUT)


def _target(
    output: Path | None,
    frames_dir: Path | None,
    container: str | None,
    kind: str | None,
    sound: str | None,
    given: dict[str, Any],
) -> tuple[Path, OutputFormat]:
    """Where to, and what; says no to what does not go together."""
    target = output or frames_dir
    if target is None or (output is not None and frames_dir is not None):
        raise click.UsageError("say where the result goes: either -o OUT.mp4 or --frames-dir DIR")
    if frames_dir is not None and (container is not None or kind in RAW):
        raise click.UsageError("--frames-dir takes pictures: --format png or jpg")
    if output is not None and kind in FOLDERS:
        raise click.UsageError(f"--format {kind} needs --frames-dir; -o takes bgr24 or rgb24")
    if kind is not None and container is not None:
        raise click.UsageError("--format is for raw frames and pictures: no --container with it")
    if target == STDOUT and sys.stdout.isatty():
        raise click.UsageError("stdout is a terminal: -o - is for a pipe")
    try:
        name = kind or container or ("png" if frames_dir else OutputFormat.name_for(target))
        extra = {key: given[key] for key in ("fps", "width") if key in given}
        form = OutputFormat(name, sound or "auto", **extra)
        form.check(target, given.keys() | ({"audio"} if sound else set()))
        if given.get("crf", 0) > 51 and name != "webm":
            raise FormatError(f"crf is 0 to 51 for {name}, got {given['crf']}")
    except FormatError as e:
        raise click.UsageError(str(e)) from e
    return target, form


def _words(summary: RenderSummary, as_json: bool) -> str:
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
        }
    )
