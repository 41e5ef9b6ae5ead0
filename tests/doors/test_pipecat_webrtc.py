"""The example bot, as a program of its own, with a real WebRTC peer."""

from __future__ import annotations

import asyncio
import fractions
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
import soxr
from aiortc.mediastreams import AudioStreamTrack
from av import AudioFrame
from numpy.typing import NDArray

from lipsync_benchmarks.doors.curves import Sync
from lipsync_benchmarks.doors.mouth import render_mouth
from lipsync_benchmarks.doors.peer import Peer
from lipsync_embedded import Server
from support.bot_peer import bot_peer
from support.drawn_avatar import NAME
from support.replicas import free_port
from support.toy_avatars import ROOT

pytestmark = pytest.mark.server
TEXT = """Good morning. Here is a sentence.

And here, after a pause, comes another one: it is longer, and nobody will hear its end, because somebody
interrupts the bot long before it is over, and then there is silence."""


class Microphone(AudioStreamTrack):
    """A track that sends a clip between silence, 20 ms at a time."""

    def __init__(self, clip: NDArray[np.int16], rate: int) -> None:
        super().__init__()
        self._clip, self._rate, self._at = clip, rate, 0
        self._begin: float | None = None

    async def recv(self) -> AudioFrame:
        """Return the next frame when it is due."""
        size = self._rate // 50
        if self._begin is None:
            self._begin = time.monotonic()
        await asyncio.sleep(max(0.0, self._begin + self._at / self._rate - time.monotonic()))
        block = np.zeros(size, np.int16)
        part = self._clip[self._at : self._at + size]
        block[: len(part)] = part
        frame = AudioFrame.from_ndarray(block[None], "s16", "mono")
        frame.sample_rate, frame.pts = self._rate, self._at
        frame.time_base = fractions.Fraction(1, self._rate)
        self._at += size
        return frame


@contextmanager
def bot(server: Server, *options: str) -> Iterator[str]:
    """Yield the URL of the example bot; it must end cleanly on Ctrl-C."""
    port = free_port("127.0.0.1")
    command = [sys.executable, str(ROOT / "examples/pipecat/bot.py"), "--url", server.grpc_url]
    command += ["--avatar", "toy", "--port", str(port), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
    try:
        while True:
            assert process.poll() is None, "the bot ended while it started"
            assert time.monotonic() < deadline, "the bot did not start"
            try:
                assert "video" in httpx.get(url).text
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield url
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=60)
        print(log)
        assert "Traceback" not in log
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


def test_it_reads_a_text_and_is_interrupted(server: Server, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT)

    async def run(url: str) -> None:
        async with bot_peer(url, Microphone(np.zeros(0, np.int16), 48_000)) as peer:
            await peer.until(lambda p: len(p.loud()) > 100 and len(p.video) > 50)
            assert peer.video[0][1].shape == (240, 320, 3)
            peer.send(type="interrupt")
            await peer.until(lambda p: time.monotonic() - max(p.loud()) > 1.0)
            seen, spoken = len(peer.video), len(peer.loud())
            assert spoken < 250, "5 s: the text takes 12 s"
            await peer.until(lambda p: len(p.video) > seen + 25)
            peer.send(type="say", text="And again.")
            await peer.until(lambda p: len(p.loud()) > spoken + 20)

    with bot(server, "--text", str(text)) as url:
        asyncio.run(run(url))


def test_it_repeats_what_it_hears(server: Server) -> None:
    clip, rate = soundfile.read(ROOT / "examples/speech.wav", dtype="int16")
    clip = clip[: 3 * rate]

    async def run(url: str) -> NDArray[np.int16]:
        silence = np.zeros(4 * rate, np.int16)  # while the bot starts
        async with bot_peer(url, Microphone(np.concatenate([silence, clip]), rate)) as peer:
            await peer.until(lambda p: len(p.loud()) > 75)
            await peer.until(lambda p: time.monotonic() - max(p.loud()) > 1.5)
            assert len(peer.video) > 50
            return np.concatenate([block for _, block in peer.audio])

    with bot(server) as url:
        heard = asyncio.run(run(url))
    assert loud_blocks(heard, 48_000) > 0.9 * loud_blocks(clip, rate)


@asynccontextmanager
async def watching(server: Server, url: str) -> AsyncIterator[Peer]:
    """Yield a peer of the bot at `url` that measures the mouth, when frames come."""
    clip, rate = soundfile.read(ROOT / "examples/speech.wav", dtype="float32")
    wave = soxr.resample(clip[: 3 * rate], rate, 16_000)
    peer = Peer(await asyncio.to_thread(render_mouth, server.grpc_url, NAME, wave), True, NAME)
    try:
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            await peer.talk_to_bot(http, Microphone(np.zeros(0, np.int16), 48_000))
        await peer.until(lambda p: len(p.frames) > 50)
        yield peer
    finally:
        await peer.close()


def test_the_mouth_moves_while_the_bot_speaks_and_rests_after(drawn_server: Server) -> None:
    async def speak_and_rest(peer: Peer) -> None:
        begun = time.monotonic()
        peer.channel.send(json.dumps({"type": "say", "text": TEXT}))
        await peer.until(lambda p: len(p.heard(begun)) > 50 and len(p.spoke(begun)) > 15)
        peer.channel.send(json.dumps({"type": "interrupt"}))
        await peer.until(lambda p: not p.heard(p.blocks[-1][0] - 1.0))
        await peer.until(lambda p: not p.spoke(p.frames[-1][0] - 1.0))

    async def run(url: str) -> None:
        async with watching(drawn_server, url) as peer:
            assert not peer.spoke(0.0)
            for _ in range(2):
                await speak_and_rest(peer)

    with bot(drawn_server, "--avatar", NAME) as url:
        asyncio.run(run(url))


@pytest.mark.soak  # arrivals are times: only a quiet machine keeps them
def test_the_mouth_is_in_step_with_the_sound_at_the_peer(drawn_server: Server) -> None:
    """The sound that was heard, rendered offline, opens the mouth as the peer saw it."""

    async def run(url: str) -> Sync:
        async with watching(drawn_server, url) as peer:
            begun = time.monotonic()
            peer.channel.send(json.dumps({"type": "say", "text": TEXT}))
            await peer.until(lambda p: len(p.heard(begun)) > 8 * 50)
            return await asyncio.to_thread(peer.sync, drawn_server.grpc_url, begun, 6.0)

    with bot(drawn_server, "--avatar", NAME) as url:
        sync = asyncio.run(run(url))
    assert sync.correlation >= 0.85, sync
    assert abs(sync.shift_ms) < 100, sync


def loud_blocks(samples: NDArray[np.int16], rate: int) -> int:
    """Return how many 40 ms are loud."""
    blocks = samples[: len(samples) // (rate // 25) * (rate // 25)].reshape(-1, rate // 25)
    return int((np.abs(blocks.astype(int)).max(axis=1) > 1000).sum())


def test_an_offer_that_is_none_is_refused(server: Server) -> None:
    with bot(server) as url:
        for body in (b"", b"{}", b'{"sdp": "v=0", "type": "answer"}'):
            response = httpx.post(f"{url}/offer", content=body)
            assert response.status_code == 400, body
            assert "offer" in response.text
