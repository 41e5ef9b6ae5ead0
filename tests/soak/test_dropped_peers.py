"""Peers of the web service that vanish without goodbye, among hostile requests: nothing of them is left."""

from __future__ import annotations

import asyncio
import gc
import time
from dataclasses import dataclass

import httpx
import psutil
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection

from lipsync_embedded import Server
from lipsync_web import WebSettings
from support.triton_calls import processes
from support.web import running, viewer

WHEP = "/v1/avatars/toy/whep"
SDP = {"content-type": "application/sdp", "authorization": "Bearer secret"}
SESSIONS = 10
GROWTH_MB = 40.0  # of 200 peers as of 10: memory that is left does not add up
pytestmark = pytest.mark.server


@dataclass(frozen=True)
class Held:
    """The resources of the service and of the lip-sync server.

    Attributes:
        processes: of the server and of this process, which is the service.
        sockets: of this process.
        files: open ones of this process.
        memory_mb: unique to this process.
    """

    processes: int
    sockets: int
    files: int
    memory_mb: float

    @classmethod
    def by(cls, server: Server) -> Held:
        gc.collect()
        process = psutil.Process()
        return cls(
            len(processes(server)) + len(process.children(recursive=True)),
            len(process.net_connections(kind="all")),
            process.num_fds(),
            process.memory_full_info().uss / 2**20,
        )

    def is_back(self, before: Held, growth_mb: float) -> bool:
        """Return whether no more is held, and at most `growth_mb` more memory."""
        return (
            self.processes <= before.processes
            and self.sockets <= before.sockets
            and self.files <= before.files
            and self.memory_mb <= before.memory_mb + growth_mb
        )


async def open_and_vanish(base: str, connects: bool) -> None:
    """Open a session, and stop to answer: once connected, or without ever connecting."""
    async with httpx.AsyncClient(base_url=base, headers=SDP, timeout=120) as http:
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        peer.addTransceiver("video", direction="recvonly")
        peer.addTransceiver("audio", direction="recvonly")
        await peer.setLocalDescription(await peer.createOffer())
        while True:
            response = await http.post(WHEP, content=peer.localDescription.sdp)
            if response.status_code != 503:  # all sessions are taken until those that vanished end
                break
            assert response.headers["retry-after"]
            await asyncio.sleep(0.2)
        assert response.status_code == 201, response.text
        if connects:
            transport = peer.getTransceivers()[0].receiver.transport.transport
            await vanish_when_connected(peer, transport, response.text)
        await peer.close()


async def vanish_when_connected(peer: RTCPeerConnection, transport: object, answer: str) -> None:
    """Connect, then close the sockets below: no goodbye is sent."""
    from aiortc import RTCSessionDescription

    await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    deadline = time.monotonic() + 60
    while peer.connectionState != "connected":
        assert time.monotonic() < deadline, peer.connectionState
        await asyncio.sleep(0.02)
    for protocol in transport._connection._protocols:  # type: ignore[attr-defined]
        protocol.transport.abort()


def hostile(base: str) -> None:
    """Send what a caller must not: each gets a sentence."""
    cases = [
        (WHEP, SDP, b"hello", 400),
        (WHEP, SDP, b"v=0\r\n" + b"a=x\r\n" * 20_000, 413),
        (WHEP, SDP, b"\xff\xfe\x00", 400),
        (WHEP, SDP | {"authorization": "Bearer wrong"}, b"v=0\r\n", 401),
        (WHEP, {"content-type": "text/plain", "authorization": "Bearer secret"}, b"v=0", 415),
        ("/v1/sessions/x/audio", SDP, b"\0", 404),
    ]
    for path, headers, body, status in cases:
        response = httpx.post(base + path, headers=headers, content=body, timeout=60)
        taken = (
            path == WHEP and response.status_code == 503
        )  # a session is opened before its offer is read
        assert response.status_code == status or taken, response.text
        assert len(response.json()["detail"]) > 20


async def drop_many(base: str, count: int) -> None:
    """Drop peers, as many at once as there may be sessions, and hostile requests between them."""
    for begin in range(0, count, SESSIONS):
        numbers = range(begin, min(begin + SESSIONS, count))
        await asyncio.gather(*(open_and_vanish(base, n % 2 == 0) for n in numbers))
        await asyncio.to_thread(hostile, base)


@pytest.mark.parametrize(
    ("warm_up", "peers"),  # pools and caches grow until some dozens of peers have come
    [(10, 10), pytest.param(60, 200, marks=[pytest.mark.soak, pytest.mark.timeout(5400)])],
)
def test_nothing_of_a_dropped_peer_is_left(
    server: Server, warm_up: int, peers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Connected peers are asked every 5 s whether they are there, and given up after six times (RFC 7675).
    monkeypatch.setattr("aioice.ice.CONSENT_INTERVAL", 0.5)
    settings = WebSettings(
        server.grpc_url,
        token="secret",
        max_sessions=SESSIONS,
        connect_timeout_s=5.0,
        unwatched_timeout_s=2.0,
    )
    with running(settings) as base:
        asyncio.run(drop_many(base, warm_up))
        before = settled(server)
        asyncio.run(drop_many(base, peers))
        after = settled(server)
        print(f"before: {before}\nafter:  {after}")
        assert after.is_back(before, GROWTH_MB), f"\n{before}\n{after}"
        asyncio.run(watch(base))


def settled(server: Server) -> Held:
    """Return what is held once no peer connection is left, and nothing changes any more."""
    deadline = time.monotonic() + 240
    seen = Held.by(server)
    while True:
        time.sleep(1.0)
        last, seen = seen, Held.by(server)
        left = sum(type(found) is RTCPeerConnection for found in gc.get_objects())
        if not left and (last.sockets, last.files) == (seen.sockets, seen.files):
            return seen
        assert time.monotonic() < deadline, f"{left} peer connections are left: {seen}"


async def watch(base: str) -> None:
    """A peer that behaves is served as before."""
    async with viewer(base) as watching:
        watching.http.headers["authorization"] = "Bearer secret"
        assert (await watching.watch(WHEP)).status_code == 201
        await watching.frames(5)
