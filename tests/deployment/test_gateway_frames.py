"""Frames through the gateway: the same as from a replica directly, with raw calls and with the client."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from lipsync_client import LipSyncClient, NotAllowed, RenderOptions
from support.callers import Caller
from support.gateway import TOKENS, Gateway
from support.replicas import Replica
from support.triton_calls import PROTOCOLS, Triton, speech


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("output", ["FRAMES", "I420", "JPEG", "H264"])
def test_frames_are_those_of_a_direct_call(
    anna: Caller,
    replicas: list[Replica],
    request_tensors: dict[str, NDArray[Any]],
    protocol: str,
    output: str,
) -> None:
    assert replicas[0].server is not None
    direct = Triton(replicas[0].server, "grpc").infer("toy", request_tensors, [output])[output]
    for _ in range(2):  # one request for each replica
        through = anna.frames(protocol, "toy", request_tensors, output)
        np.testing.assert_array_equal(through, direct)


def test_audio_near_the_size_limit_passes(anna: Caller, replicas: list[Replica]) -> None:
    """A request of 99 % of the limit, far over HAProxy's default buffer, arrives whole."""
    wave = speech(3.8)
    tensors = Triton.tensors(wave, first=20, count=4)
    assert 0.98 * 245_760 < wave.nbytes < 245_760
    assert replicas[0].server is not None
    direct = Triton(replicas[0].server, "grpc").infer("toy", tensors, ["JPEG"])["JPEG"]
    for protocol in PROTOCOLS:
        np.testing.assert_array_equal(anna.frames(protocol, "toy", tensors, "JPEG"), direct)


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_the_client_renders_through_it(
    anna: Caller, gateway: Gateway, gateway_folder: Path, replicas: list[Replica], scheme: str
) -> None:
    def jpegs(url: str, token: str | None = None) -> list[bytes]:
        with LipSyncClient(url, token=token, ca_file=gateway_folder / "ca.pem") as client:
            chunks = client.render(gateway_folder / "clip.wav", "toy", RenderOptions(output="JPEG"))
            return [frame for chunk in chunks for frame in chunk.frames]

    assert replicas[0].server is not None
    assert anna.grpc.is_model_ready("toy", headers=anna.headers)
    soundfile.write(gateway_folder / "clip.wav", speech(3.0), 16_000)
    url = f"{scheme}://{gateway.address}"
    assert jpegs(url, TOKENS["anna"]) == jpegs(replicas[0].server.grpc_url)
    ids = [line["request_id"] for line in gateway.log() if "nfer" in line["path"]]
    assert any(re.fullmatch(r"[0-9a-f]{8}-8", request_id or "") for request_id in ids)
    for wrong in (None, "token-of-nobody"):
        with pytest.raises(NotAllowed, match="asks for a token that it knows"):
            jpegs(url, wrong)
