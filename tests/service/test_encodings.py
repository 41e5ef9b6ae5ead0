"""JPEG and H.264 outputs lose no more than their quality settings allow."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import av
import cv2
import lipsync_encode
import numpy as np
import pytest
from numpy.typing import NDArray

from lipsync_client._avatar import Avatar
from lipsync_client._transports.request import Output
from lipsync_embedded import Server
from lipsync_preprocessing.avatar import add_avatar
from support.decoded_frames import assert_same_frames, i420, nal_types, psnr
from support.oracle import Oracle
from support.servers import ServerPool
from support.toy_avatars import ToyAvatar, write_dataset, write_landmarks
from support.triton_calls import PROTOCOLS, Triton, speech

WAVE = speech(0.4)


def decode(stream: bytes) -> list[NDArray[Any]]:
    with av.open(io.BytesIO(stream), format="h264") as container:
        return [frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)]


def grey(frame: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("quality", "floor_db"), [(None, 46), (30, 36), (100, 55)])
def test_jpeg_loss(server: Server, protocol: str, quality: int | None, floor_db: int) -> None:
    """Measured on luma: the toy patches are coloured noise, and JPEG halves the resolution of chroma."""
    triton = Triton(server, protocol)
    parameters = None if quality is None else {"jpeg_quality": quality}
    for avatar in ("toy", "wide"):
        raw = triton.frames(avatar, WAVE)
        units = triton.frames(avatar, WAVE, "JPEG", parameters)[:, 0]
        assert len(units) == len(raw)
        for unit, frame in zip(units, raw, strict=True):
            decoded = cv2.imdecode(np.frombuffer(unit, np.uint8), cv2.IMREAD_COLOR)
            assert psnr(grey(decoded), grey(frame)) >= floor_db
            assert psnr(decoded, frame) >= 25


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_h264_without_loss_is_the_raw_frame(server: Server, protocol: str) -> None:
    """At crf 0, which is lossless, the decoded video is the raw frame in I420, bit for bit."""
    triton = Triton(server, protocol)
    for avatar in ("toy", "wide"):
        raw = triton.frames(avatar, WAVE)
        units = triton.frames(avatar, WAVE, "H264", {"crf": 0})[:, 0]
        assert np.array_equal(decode(b"".join(units)), [i420(frame) for frame in raw])


@pytest.mark.parametrize(
    ("parameters", "floor_db"),
    [({}, 40), ({"crf": 30}, 34), ({"crf": 10, "preset": "medium"}, 46), ({"crf": "51"}, 25)],
)
def test_h264_loss(server: Server, parameters: dict[str, int | str], floor_db: int) -> None:
    triton = Triton(server, "http")
    for avatar in ("toy", "wide"):
        raw = triton.frames(avatar, WAVE)
        units = triton.frames(avatar, WAVE, "H264", parameters)[:, 0]
        decoded = decode(b"".join(units))
        assert len(decoded) == len(units) == len(raw)
        losses = [psnr(image, i420(frame)) for image, frame in zip(decoded, raw, strict=True)]
        assert min(losses) >= floor_db
        assert max(losses) < 99  # the quality is the requested one, not a better one


def test_every_access_unit_is_one_frame(server: Server) -> None:
    units = Triton(server, "grpc").frames("wide", WAVE, "H264")[:, 0]
    assert [x for x in nal_types(units[0]) if x != 6] == [7, 8, 5]  # 6: x264's comment
    assert [nal_types(unit) for unit in units[1:]] == [[1]] * (len(units) - 1)
    for n in range(1, len(units) + 1):
        assert len(decode(b"".join(units[:n]))) == n  # no frame waits for a later one


def test_one_request_for_every_output(server: Server) -> None:
    triton = Triton(server, "grpc")
    together = triton.infer("toy", {"AUDIO": WAVE}, ["H264", "FRAMES", "JPEG"])
    for name, value in together.items():
        assert np.array_equal(value, triton.frames("toy", WAVE, name))


ODD = {"odd241": (321, 241), "odd243": (321, 243)}  # half of 242 is odd too: so are its chroma rows


@pytest.fixture(scope="module")
def odd_server(
    tmp_path_factory: pytest.TempPathFactory,
    servers: ServerPool,
    toy_repository: Path,
    toy_avatars: dict[str, ToyAvatar],
) -> tuple[Server, dict[str, Oracle]]:
    """A server with avatars of a single frame of odd size, the face rectangle in the lower right corner."""
    root = tmp_path_factory.mktemp("odd")
    toy = toy_avatars["toy"]
    shutil.copytree(toy_repository, root / "models")
    oracles = {}
    for name, size in ODD.items():
        write_dataset(root / name, size, 1, outside=True)
        write_landmarks(root / name / "landmarks/0.lms", 211, 131, 150)
        add_avatar(root / "models", name, root / name, toy.generator, toy.encoder)
        oracles[name] = Oracle(root / name, toy.generator, toy.encoder)
    return servers.get(root / "models", models=list(ODD)), oracles


@pytest.mark.parametrize("name", ODD)
def test_a_single_frame_of_odd_size(
    odd_server: tuple[Server, dict[str, Oracle]], name: str
) -> None:
    server, oracles = odd_server
    width, height = ODD[name]
    triton = Triton(server, "grpc")
    raw = triton.frames(name, WAVE)
    assert raw.shape[1:] == (height, width, 3)
    assert_same_frames(raw, oracles[name].render(WAVE))
    for unit, frame in zip(triton.frames(name, WAVE, "JPEG")[:, 0], raw, strict=True):
        decoded = cv2.imdecode(np.frombuffer(unit, np.uint8), cv2.IMREAD_COLOR)
        assert psnr(grey(decoded), grey(frame)) >= 40
    # 4:2:0 has no odd sizes: the last row and column are dropped.
    video = decode(b"".join(triton.frames(name, WAVE, "H264", {"crf": 0})[:, 0]))
    planar = triton.frames(name, WAVE, "I420")
    assert planar.shape == (len(raw), (height - 1) * 3 // 2, width - 1)
    for decoded, image, frame in zip(video, planar, raw, strict=True):
        assert np.array_equal(decoded, i420(frame))
        assert np.array_equal(image, i420(frame))


def test_raw_frames_of_a_response_are_bounded_in_bytes() -> None:
    """32 frames of 4K are 759 MiB as BGR, and several times that in the server's buffers."""
    lipsync_encode.check_raw_size("FRAMES", 21, (2160, 3840, 3))
    lipsync_encode.check_raw_size("FRAMES", 32, (1080, 1920, 3))
    with pytest.raises(lipsync_encode.OptionError, match="at most 21 frames at once"):
        lipsync_encode.check_raw_size("FRAMES", 22, (2160, 3840, 3))
    avatar = Avatar("wide", width=3840, height=2160, frames=10, max_frames=32)
    sizes = {output: avatar.chunk_size(output) for output in get_args(Output)}
    assert sizes == {"FRAMES": 5, "I420": 10, "JPEG": 32, "H264": 32}
    assert replace(avatar, width=1280, height=720).chunk_size("FRAMES") == 32
    assert replace(avatar, width=20_000, height=20_000).chunk_size("FRAMES") == 1
