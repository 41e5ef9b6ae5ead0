"""The doors of the service with real peers, on the demo avatar."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import click

from lipsync_embedded.accelerator import cpu_has_bf16
from lipsync_preprocessing.profiles.settings import OPENVINO_BF16, OPENVINO_F32

from ..case import AVATAR, build, build_demo, machine, speech_samples
from ..measure import Setup, serve
from .mouth import render_mouth

CLIP_S = 8.0
PARTS = ("web", "bot", "livekit", "passthrough", "viewers", "page")


@click.command()
@click.option("--parts", default=",".join(PARTS), show_default=True, help="What to measure.")
@click.option("--profile", help="Profile of the server: openvino-bf16 if the processor has it.")
@click.option("--replies", default=20, show_default=True, help="Bursts and interruptions.")
@click.option("--minutes", default=10, show_default=True, help="Minutes of the page in Chromium.")
@click.option("--url", help="A server that runs already, with the demo avatar.")
def main(parts: str, profile: str | None, replies: int, minutes: int, url: str | None) -> None:
    """Measure WHEP, a bot of Pipecat's, LiveKit and the page with real peers."""
    profile = profile or (OPENVINO_BF16 if cpu_has_bf16() else OPENVINO_F32)
    click.echo(f"\n## Doors\n\n{AVATAR} avatar, {profile}, {machine()}.")
    wanted = parts.split(",")
    if unknown := set(wanted) - set(PARTS):
        raise click.UsageError(f"unknown parts: {', '.join(sorted(unknown))}")
    if url is not None:
        build_demo()
        _measure(url, wanted, replies, minutes)
        return
    with serve(Setup(profile, "demo"), build(1.0), None) as (server, _):
        _measure(server.grpc_url, wanted, replies, minutes)


def _measure(url: str, parts: list[str], replies: int, minutes: int) -> None:
    """Measure the parts in order, each with what it needs imported only then."""
    clip = speech_samples(CLIP_S)
    mouth = render_mouth(url, AVATAR, clip)

    def web() -> str:
        from .whep import measure_whep

        return asyncio.run(measure_whep(url, clip, mouth, replies))

    def bot() -> str:
        from .bot import measure_bot

        return asyncio.run(measure_bot(url, mouth, replies))

    def livekit() -> str:
        from .livekit_room import measure_livekit

        return asyncio.run(measure_livekit(url, clip, mouth, replies))

    def passthrough() -> str:
        from .load import measure_passthrough

        return asyncio.run(measure_passthrough(url, clip))

    def viewers() -> str:
        from .load import measure_viewers

        return asyncio.run(measure_viewers(url, clip))

    def page() -> str:
        from .page import measure_page

        return measure_page(url, clip, mouth, minutes)

    found: dict[str, Callable[[], str]] = {
        "web": web, "bot": bot, "livekit": livekit, "passthrough": passthrough,
        "viewers": viewers, "page": page,
    }  # fmt: skip
    for part in parts:
        click.echo(f"{part} ...", err=True)
        click.echo(found[part]())
