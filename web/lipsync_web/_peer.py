"""One WebRTC peer connection: an offer in, an answer out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from aiortc import (
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamTrack
from aiortc.sdp import SessionDescription, candidate_from_sdp

from ._problems import Problem
from ._settings import IceServer

MAX_OFFER_BYTES = 64 << 10
_TIMEOUT_S = 10.0  # of a negotiation: collecting candidates from STUN and TURN servers


def check_offer(offer: str) -> None:
    """Raise an error if an offer cannot be parsed.

    Raises:
        Problem: the offer is not SDP.
    """
    if not offer.lstrip().startswith("v=0"):
        raise Problem(400, "The body must be an SDP offer that begins with v=0.")
    try:
        SessionDescription.parse(offer)
    except Exception as e:  # aiortc reports malformed SDP by whatever its parser stumbles over
        raise Problem(400, f"The SDP offer cannot be used: {type(e).__name__}: {e}") from e


class Peer:
    """A peer connection that ends once: by `close`, by the other side, or when it fails to connect.

    Args:
        ice_servers: for both sides.
        on_end: called once when the connection has ended.
    """

    def __init__(self, ice_servers: Sequence[IceServer], on_end: Callable[[Peer], None]) -> None:
        servers = [RTCIceServer(s.url, s.username, s.credential) for s in ice_servers]
        # An empty list and not None, which would mean a public STUN server.
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self._on_end = on_end
        self._ended = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.connection.on("connectionstatechange", self._state_changed)

    @property
    def connected(self) -> bool:
        """Return whether media flows."""
        return self.connection.connectionState == "connected"

    async def send_only(self, offer: str, tracks: Sequence[MediaStreamTrack]) -> str:
        """Return the SDP answer to a peer that receives `tracks`, video as H.264 alone.

        Raises:
            Problem: the offer is not SDP, or does not receive H.264 and Opus.
        """
        for track in tracks:
            transceiver = self.connection.addTransceiver(track, direction="sendonly")
            wanted = "video/H264" if track.kind == "video" else "audio/opus"
            # Before the remote description is set: otherwise VP8 is negotiated, and the H.264 packed as VP8.
            codecs = RTCRtpSender.getCapabilities(track.kind).codecs
            transceiver.setCodecPreferences([c for c in codecs if c.mimeType == wanted])
        return await self._answer(offer, receives=False)

    async def receive_only(self, offer: str) -> str:
        """Return the SDP answer to a peer that sends audio.

        Raises:
            Problem: the offer is not SDP, or sends no audio.
        """
        return await self._answer(offer, receives=True)

    async def _answer(self, offer: str, *, receives: bool) -> str:
        check_offer(offer)
        try:
            description = RTCSessionDescription(offer, "offer")
            await self.connection.setRemoteDescription(description)
            self._check_directions(receives)
            answer = await self.connection.createAnswer()
            await asyncio.wait_for(self.connection.setLocalDescription(answer), _TIMEOUT_S)
        except Problem:
            raise
        except (asyncio.TimeoutError, TimeoutError) as e:
            raise Problem(504, "No STUN or TURN server answered in time.") from e
        except Exception as e:  # what its parser let pass
            raise Problem(400, f"The SDP offer cannot be used: {type(e).__name__}: {e}") from e
        return str(self.connection.localDescription.sdp)

    def _check_directions(self, receives: bool) -> None:
        """Refuse an offer whose media would flow the wrong way, or not at all."""
        mine = "recvonly" if receives else "sendonly"
        for transceiver in self.connection.getTransceivers():
            offered = transceiver._offerDirection
            if transceiver.mid is None or offered not in (mine, "sendrecv"):
                verb = "send audio" if receives else "receive video and audio"
                raise Problem(400, f"The SDP offer must {verb}; its {transceiver.kind} does not.")
            if receives and transceiver.kind != "audio":
                raise Problem(400, "The SDP offer must send audio alone; it offers video too.")
            transceiver.direction = mine
        if receives and not self.connection.getTransceivers():
            raise Problem(400, "The SDP offer must send audio; it has no audio section.")

    async def add_candidates(self, fragment: str) -> None:
        """Add the candidates of an SDP fragment (trickle ICE, RFC 8840).

        Raises:
            Problem: a line that is no candidate.
        """
        mid: str | None = None
        for line in fragment.splitlines():
            name, _, value = line.strip().partition(":")
            if name == "a=mid":
                mid = value
            elif name == "a=candidate":
                try:
                    candidate = candidate_from_sdp(value)
                    candidate.sdpMid = mid
                    await self.connection.addIceCandidate(candidate)
                except (ValueError, AssertionError, IndexError) as e:
                    raise Problem(
                        400, f"This line is no ICE candidate: {line.strip()[:200]}"
                    ) from e

    async def close(self) -> None:
        """End the connection."""
        self._end()
        await self.connection.close()

    def drop_if_unconnected_after(self, seconds: float) -> None:
        """End the connection if no media flows after this time."""

        async def drop() -> None:
            await asyncio.sleep(seconds)
            if not self.connected:
                await self.close()

        self._keep(asyncio.create_task(drop()))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _state_changed(self) -> None:
        if self.connection.connectionState in ("failed", "closed"):
            self._keep(asyncio.create_task(self.close()))

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._on_end(self)
