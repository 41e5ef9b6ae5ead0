"""WHEP of `lipsync-web` at a real peer: bursts, interruptions, mouth against sound."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx
import numpy as np
from numpy.typing import NDArray

from ..case import AVATAR, WORK
from ..tables import table
from .mouth import Mouth, write_wav
from .peer import Peer
from .programs import web_service

BURST_S = 2.0
_REST_S = 1.5
Say = Callable[[float], Awaitable[None]]  # seconds of speech, at once
Interrupt = Callable[[], Awaitable[None]]


async def measure_whep(url: str, clip: NDArray[np.float32], mouth: Mouth, replies: int) -> str:
    """Return the table of the peer."""
    with web_service(url) as (address, _):
        async with httpx.AsyncClient(base_url=address, timeout=120) as http:
            peer = Peer(mouth)
            path = await peer.watch(http, f"/v1/avatars/{AVATAR}/whep")

            async def say(seconds: float) -> None:
                data = wav(clip[: round(seconds * 16_000)])
                (await http.post(f"{path}/audio", content=data)).raise_for_status()

            async def interrupt() -> None:
                (await http.post(f"{path}/interrupt")).raise_for_status()

            try:
                return await conversation("WHEP", peer, url, say, interrupt, replies)
            finally:
                await http.delete(path)
                await peer.close()


async def conversation(
    name: str, peer: Peer, url: str, say: Say, interrupt: Interrupt, replies: int
) -> str:
    """Let an avatar speak and interrupt it; return the table of what its peer saw and heard."""
    await peer.until(lambda p: len(p.frames) > 50)
    first_frame, first_sound, silence, rest = [], [], [], []
    for _ in range(replies):
        begun = time.monotonic()
        await say(BURST_S)
        await peer.until(lambda p, t=begun: bool(p.spoke(t) and p.heard(t)))  # type: ignore[misc]
        first_frame.append(peer.spoke(begun)[0] - begun)
        first_sound.append(peer.heard(begun)[0] - begun)
        await _until_at_rest(peer)
    for n in range(replies):
        begun = time.monotonic()
        await say(8.0)
        await peer.until(lambda p, t=begun: bool(p.spoke(t) and p.heard(t)))  # type: ignore[misc]
        await asyncio.sleep(0.5 + 0.037 * (n % 17))
        begun = time.monotonic()
        await interrupt()
        await _until_at_rest(peer)
        silence.append(max([begun, *peer.heard(begun)]) - begun)
        rest.append(max([begun, *peer.spoke(begun)]) - begun)
    begun = time.monotonic()
    await say(8.0)
    await peer.until(lambda p: bool(p.heard(begun)))
    await asyncio.sleep(5.0)
    await _until_at_rest(peer)
    sync = await asyncio.to_thread(peer.sync, url, begun, 6.0)
    lines = [
        ["burst of 2 s to the first speaking frame, s", *percentiles(first_frame)],
        ["burst of 2 s to the first sound, s", *percentiles(first_sound)],
        ["interruption to silence, s", *percentiles(silence)],
        ["interruption to the mouth at rest, s", *percentiles(rest)],
    ]
    head = [f"{name}, {replies} times", "p50", "p95"]
    return f"\n{table(head, lines)}\nMouth against sound: {sync}.\n"


async def _until_at_rest(peer: Peer) -> None:
    """Wait until nothing was heard, and no open mouth seen, for a while."""
    await peer.until(
        lambda p: not (p.heard(time.monotonic() - _REST_S) or p.spoke(time.monotonic() - _REST_S))
    )


def percentiles(values: list[float]) -> list[str]:
    """Return p50 and p95, s."""
    return [f"{np.percentile(values, p):.2f}" for p in (50, 95)]


def wav(samples: NDArray[np.float32]) -> bytes:
    """Return mono samples at 16 kHz as a WAV file."""
    path = WORK / "burst.wav"
    write_wav(path, samples)
    return path.read_bytes()
