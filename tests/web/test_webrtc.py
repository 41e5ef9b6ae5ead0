"""Live sessions over WebRTC, watched by a real aiortc peer."""

from __future__ import annotations

import asyncio
import io
import time

import httpx
import numpy as np
import psutil
import pytest
import soundfile
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack
from av import AudioFrame
from numpy.typing import NDArray

from lipsync_embedded import Server
from lipsync_web import WebSettings
from support.triton_calls import speech
from support.web import Viewer, running, viewer

pytestmark = pytest.mark.server
WHEP = "/v1/avatars/toy/whep"


def wav(wave: NDArray[np.float32], rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


async def figures(watching: Viewer) -> dict[str, object]:
    return dict((await watching.http.get(watching.location)).json())


async def until_gone(http: httpx.AsyncClient, path: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        response = await http.get(path)
        if response.status_code == 404 or response.json()["ended"]:
            return
        assert time.monotonic() < deadline, "the session did not end"
        await asyncio.sleep(0.1)


def test_a_peer_sees_and_hears_an_uploaded_file(web: str) -> None:
    async def run() -> None:
        async with viewer(web) as watching:
            assert (await watching.watch(WHEP)).status_code == 201
            assert "H264/90000" in watching.answer
            assert "VP8" not in watching.answer
            await watching.frames(5)
            assert (watching.video[0].width, watching.video[0].height) == (320, 240)
            sent = await watching.http.post(f"{watching.location}/audio", content=wav(speech(2.0)))
            assert sent.status_code == 202
            assert sent.json() == {"seconds": 2.0}
            await watching.frames(50)
            heard = np.concatenate([frame.to_ndarray().ravel() for frame in watching.audio])
            assert np.abs(heard.astype(int)).max() > 1000  # idle audio is silence
            faces = np.stack([f.to_ndarray(format="gray") for f in watching.video]).astype(int)
            assert np.abs(np.diff(faces, axis=0)).max() > 20

    asyncio.run(run())


def test_the_server_encodes_and_nobody_else(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pass on access units as they are: aiortc's own encoder is never called."""
    from aiortc.codecs.h264 import H264Encoder

    def refuse(*_: object) -> None:
        raise AssertionError("a frame was encoded again")

    monkeypatch.setattr(H264Encoder, "encode", refuse)

    async def run() -> None:
        async with viewer(web) as watching:
            await watching.watch(WHEP)
            await watching.frames(20)

    asyncio.run(run())


def test_a_second_viewer_joins_at_a_keyframe(web: str) -> None:
    async def run() -> None:
        async with viewer(web) as first, viewer(web) as second:
            await first.watch(WHEP)
            await first.frames(5)
            assert (await second.watch(f"{first.location}/whep")).status_code == 201
            assert second.location == first.location
            await second.frames(10)
            assert (await figures(first))["viewers"] == 2

    asyncio.run(run())


class Tone(AudioStreamTrack):
    """A microphone that hears a loud tone."""

    async def recv(self) -> AudioFrame:
        frame = await super().recv()
        assert isinstance(frame, AudioFrame)
        times_s = ((frame.pts or 0) + np.arange(frame.samples)) / frame.sample_rate
        tone = 12_000 * np.sin(2 * np.pi * 220 * times_s)
        frame.planes[0].update(tone.astype(np.int16).tobytes())
        return frame


def test_the_avatar_speaks_what_the_microphone_hears(web: str) -> None:
    async def run() -> None:
        async with viewer(web) as watching:
            await watching.watch(WHEP)
            await watching.frames(3)
            speaking = RTCPeerConnection(RTCConfiguration(iceServers=[]))
            speaking.addTransceiver(Tone(), direction="sendonly")
            await speaking.setLocalDescription(await speaking.createOffer())
            answer = await watching.http.post(
                f"{watching.location}/whip",
                content=speaking.localDescription.sdp,
                headers={"content-type": "application/sdp"},
            )
            assert answer.status_code == 201
            assert answer.headers["location"] == f"{watching.location}/whip"
            await speaking.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
            deadline = time.monotonic() + 60
            while not any(np.abs(f.to_ndarray()).max() > 3000 for f in watching.audio[-50:]):
                assert time.monotonic() < deadline, "the tone was not heard"
                await asyncio.sleep(0.05)
            assert (await watching.http.delete(answer.headers["location"])).status_code == 200
            await speaking.close()

    asyncio.run(run())


def test_interrupt_drops_what_is_queued(web: str) -> None:
    async def run() -> None:
        async with viewer(web) as watching:
            await watching.watch(WHEP)
            await watching.frames(3)
            await watching.http.post(f"{watching.location}/audio", content=wav(speech(15.0)))
            deadline = time.monotonic() + 60
            while (await figures(watching))["idle"]:
                assert time.monotonic() < deadline, "the avatar did not speak"
                await asyncio.sleep(0.02)
            response = await watching.http.post(f"{watching.location}/interrupt")
            assert response.status_code == 204
            while not (await figures(watching))["idle"]:
                assert time.monotonic() < deadline, "the avatar did not fall silent"
                await asyncio.sleep(0.02)

    asyncio.run(run())


def test_a_session_ends_with_its_last_viewer(web: str) -> None:
    async def run() -> None:
        async with viewer(web) as watching:
            await watching.watch(WHEP)
            await watching.frames(3)
            await watching.connection.close()
            await until_gone(watching.http, watching.location)
            gone = await watching.http.post(f"{watching.location}/interrupt")
            assert gone.status_code == 404

    asyncio.run(run())


def test_delete_ends_a_session(web: str) -> None:
    async def run() -> None:
        async with viewer(web) as watching:
            await watching.watch(WHEP)
            assert (await watching.http.delete(watching.location)).status_code == 200
            assert (await watching.http.get(watching.location)).status_code == 404

    asyncio.run(run())


def test_trickled_candidates_are_taken_and_others_refused(web: str) -> None:
    async def run() -> None:
        async with viewer(web) as watching:
            await watching.watch(WHEP)
            headers = {"content-type": "application/trickle-ice-sdpfrag"}
            line = "a=mid:0\r\na=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host\r\n"
            good = await watching.http.patch(watching.location, content=line, headers=headers)
            assert good.status_code == 204
            bad = await watching.http.patch(
                watching.location, content="a=candidate:nonsense", headers=headers
            )
            assert bad.status_code == 400
            assert "no ICE candidate" in bad.json()["detail"]
            await watching.http.delete(watching.location)

    asyncio.run(run())


AUDIO_ONLY = (
    "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"
    "c=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendrecv\r\na=rtpmap:111 opus/48000/2\r\na=rtcp-mux\r\n"
    "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=setup:actpass\r\n"
    "a=fingerprint:sha-256 " + ":".join(["AB"] * 32) + "\r\n"
)
HOSTILE_OFFERS: dict[str, tuple[str | bytes, int]] = {
    "empty": ("", 400),
    "no SDP": ("hello", 400),
    "cut": ("v=0\r\nm=video", 400),
    "only a version": ("v=0\r\n", 400),
    "no video": (AUDIO_ONLY, 400),
    "VP8 alone": (
        AUDIO_ONLY.replace("m=audio", "m=video").replace("opus/48000/2", "VP8/90000"),
        400,
    ),
    "ports": (AUDIO_ONLY.replace("m=audio 9", "m=audio 99999999999"), 400),
    "fingerprint": (AUDIO_ONLY.replace("AB:", "ZZ:"), 400),
    "too large": ("v=0\r\n" + "a=x\r\n" * 20_000, 413),
    "binary": (b"\xff\xfe\x00", 400),
}


@pytest.mark.parametrize("case", HOSTILE_OFFERS)
def test_hostile_offers_get_a_sentence(web: str, case: str) -> None:
    offer, status = HOSTILE_OFFERS[case]
    response = httpx.post(web + WHEP, content=offer, headers={"content-type": "application/sdp"})
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert len(response.json()["detail"]) > 20


def test_other_mistakes_get_a_sentence(web: str) -> None:
    sdp = {"content-type": "application/sdp"}
    with httpx.Client(base_url=web, timeout=60) as http:
        assert http.post(WHEP, content="v=0").status_code == 415
        unknown = http.post("/v1/avatars/nobody/whep", content=AUDIO_ONLY, headers=sdp)
        assert unknown.status_code == 404
        assert "nobody" in unknown.json()["detail"]
        assert http.get("/v1/sessions/x").status_code == 404
        assert http.get(WHEP).status_code == 405
        assert http.get("/nothing").status_code == 404


def test_sessions_are_bounded_and_dropped_peers_leave_nothing(web: str) -> None:
    """Peers that never connect are dropped, and their sessions with them."""
    process = psutil.Process()

    async def drop(http: httpx.AsyncClient) -> str:
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        peer.addTransceiver("video", direction="recvonly")
        peer.addTransceiver("audio", direction="recvonly")
        await peer.setLocalDescription(await peer.createOffer())
        response = await http.post(
            WHEP, content=peer.localDescription.sdp, headers={"content-type": "application/sdp"}
        )
        await peer.close()
        assert response.status_code in (201, 503), response.text
        return str(response.headers.get("location", ""))

    async def run() -> None:
        async with httpx.AsyncClient(base_url=web, timeout=60) as http:
            while "lipsync_web_sessions 0.0" not in (await http.get("/metrics")).text:
                await asyncio.sleep(0.2)  # those of other tests
            for attempt in range(2):
                locations = [await drop(http) for _ in range(5)]
                assert sum(bool(location) for location in locations) == 3  # max_sessions
                for location in filter(None, locations):
                    await until_gone(http, location)
                if attempt == 0:
                    files = process.num_fds()
            assert process.num_fds() <= files + 2

    asyncio.run(run())


def test_a_token_is_asked_for(server: Server) -> None:
    with running(WebSettings(server.grpc_url, token="secret")) as url:
        assert httpx.get(url).status_code == 200  # the page itself asks for the token
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "secret"}):
            refused = httpx.get(f"{url}/v1/avatars", headers=headers)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
        right = httpx.get(f"{url}/v1/avatars", headers={"authorization": "Bearer secret"})
        assert {a["name"] for a in right.json()} == {"toy", "wide"}


def test_a_service_without_a_server_says_so() -> None:
    with running(WebSettings("grpc://127.0.0.1:9")) as url:
        response = httpx.get(f"{url}/v1/avatars", timeout=60)
        assert response.status_code == 502
        assert "127.0.0.1:9" in response.json()["detail"]
