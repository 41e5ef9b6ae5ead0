"""CPU time of a session with the server's H.264 and with aiortc's, and eight viewers of eight sessions."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import numpy as np
import psutil
from aiortc import rtcrtpreceiver
from av import VideoFrame
from numpy.typing import NDArray

from ..case import AVATAR
from ..processes import cpu_seconds
from ..tables import table
from .peer import Peer
from .programs import web_service
from .whep import wav

_SECONDS = 20.0
_VIEWERS = 8
_PROGRAMS = {
    "H.264 passed through": "lipsync_web.cli",
    "encoded by aiortc": "lipsync_benchmarks.doors.reencoding",
}


class _Counter:
    """Instead of a decoder, so that the peers' own work is small: one small frame for each access unit."""

    def decode(self, unit: Any) -> list[VideoFrame]:
        """Return a frame that stands for the access unit."""
        frame = VideoFrame(16, 16)
        frame.pts = unit.timestamp
        return [frame]


async def measure_passthrough(url: str, clip: NDArray[np.float32]) -> str:
    """Return the table of one session with one viewer: CPU of the web service and of the server."""
    lines = []
    for name, module in _PROGRAMS.items():
        with web_service(url, module=module) as (address, process):
            fps, web, server = await _watch(address, url, process, clip, 1)
        lines.append([name, f"{fps[0]:.1f}", f"{web:.2f}", f"{server:.2f}"])
    head = ["one session, one viewer", "frames per second", "cores, web service", "cores, server"]
    return f"\n{table(head, lines)}"


async def measure_viewers(url: str, clip: NDArray[np.float32]) -> str:
    """Return the frames per second at eight viewers of eight sessions that speak."""
    with web_service(url, "--max-sessions", str(_VIEWERS)) as (address, process):
        fps, web, server = await _watch(address, url, process, clip, _VIEWERS)
    each = ", ".join(f"{value:.1f}" for value in sorted(fps))
    return (
        f"\n{_VIEWERS} viewers of {_VIEWERS} sessions that speak: {each} frames per second;"
        f" {web:.2f} cores for the web service, {server:.2f} for the server.\n"
    )


async def _watch(
    address: str, url: str, process: psutil.Process, clip: NDArray[np.float32], count: int
) -> tuple[list[float], float, float]:
    """Return the frames per second at each viewer, and the cores of the web service and of the server."""
    names = vars(rtcrtpreceiver)
    decoder, names["get_decoder"] = names["get_decoder"], _decoder(names["get_decoder"])
    servers = _server_processes(url)
    async with httpx.AsyncClient(base_url=address, timeout=120) as http:
        peers = [Peer() for _ in range(count)]
        try:
            paths = [await peer.watch(http, f"/v1/avatars/{AVATAR}/whep") for peer in peers]
            data = wav(np.resize(clip, round(16_000 * (_SECONDS + 15))))
            for path, peer in zip(paths, peers, strict=True):
                await peer.until(lambda p: len(p.frames) > 0)
                (await http.post(f"{path}/audio", content=data)).raise_for_status()
            await asyncio.sleep(3.0)
            before = [len(peer.frames) for peer in peers]
            web, server, begun = cpu_seconds([process]), cpu_seconds(servers), time.monotonic()
            await asyncio.sleep(_SECONDS)
            seconds = time.monotonic() - begun
            web, server = cpu_seconds([process]) - web, cpu_seconds(servers) - server
            fps = [(len(p.frames) - n) / seconds for p, n in zip(peers, before, strict=True)]
            for path in paths:
                await http.delete(path)
        finally:
            names["get_decoder"] = decoder
            await asyncio.gather(*(peer.close() for peer in peers))
    return fps, web / seconds, server / seconds


def _decoder(original: Any) -> Any:
    def choose(codec: Any) -> Any:
        return _Counter() if codec.mimeType.lower() == "video/h264" else original(codec)

    return choose


def _server_processes(url: str) -> list[psutil.Process]:
    """Return the processes of the server that listens on this machine."""
    port = int(url.rpartition(":")[2])
    pids = {
        c.pid
        for c in psutil.net_connections("tcp")
        if c.laddr and c.laddr.port == port and c.status == "LISTEN"
    }
    found = [psutil.Process(pid) for pid in pids if pid]
    return [*found, *(child for p in found for child in p.children(recursive=True))]
