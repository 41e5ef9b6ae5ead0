"""The service against the oracle, on the wire."""

from __future__ import annotations

import io
import random
import shutil
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from lipsync_benchmarks import random_weights
from lipsync_embedded import Server
from lipsync_preprocessing import networks
from lipsync_preprocessing.avatar import add_avatar
from lipsync_preprocessing.profiles.files import write_profile
from lipsync_preprocessing.profiles.settings import OPENVINO_F32, ProfileSettings
from support import oracle
from support.decoded_frames import assert_same_frames, nal_types, psnr
from support.toy_avatars import ROOT, ToyAvatar
from support.triton_calls import PROTOCOLS, Triton, slice_request, speech

LIMIT = 32


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seconds", [0.05, 0.19, 1.0])
def test_short_clips_in_one_request(
    server: Server, oracles: dict[str, oracle.Oracle], protocol: str, seconds: float
) -> None:
    wave = speech(seconds)
    frames = Triton(server, protocol).frames("toy", wave)
    assert_same_frames(frames, oracles["toy"].render(wave))


@pytest.mark.parametrize(
    ("protocol", "seconds", "chunk"),
    [
        ("grpc", 3.0, 1),
        ("http", 5.22, 7),
        ("grpc", 5.22, 16),
        ("grpc", 5.22, LIMIT),
        pytest.param("grpc", 45.0, LIMIT, marks=pytest.mark.soak),
    ],
)
def test_slices_in_random_order(
    server: Server, oracles: dict[str, oracle.Oracle], protocol: str, seconds: float, chunk: int
) -> None:
    wave = speech(seconds)
    expected = oracles["toy"].render(wave)
    triton = Triton(server, protocol)
    starts = list(range(0, len(expected), chunk))
    random.Random(chunk).shuffle(starts)
    for first in starts:
        count = min(chunk, len(expected) - first)
        frames = triton.frames("toy", **slice_request(wave, first, count))
        assert_same_frames(frames, expected[first : first + count])


def test_rectangles_outside_the_frame_and_of_changing_size(
    server: Server, oracles: dict[str, oracle.Oracle]
) -> None:
    wave = speech(0.5)
    frames = Triton(server, "grpc").frames("wide", wave)
    assert frames.shape[1:] == (720, 1280, 3)
    assert_same_frames(frames, oracles["wide"].render(wave))


def test_mel_windows_and_generator_inputs(
    server: Server, oracles: dict[str, oracle.Oracle]
) -> None:
    wave = speech(1.0)
    triton = Triton(server, "grpc")
    first = triton.infer("mel", {"AUDIO": wave}, ["WINDOWS", "INDEX", "LOOP_INDEX"])
    assert np.abs(first["WINDOWS"][:, 0] - oracles["toy"].windows(wave)).max() <= 1e-5
    features = triton.infer("audio_encoder", {"mel": first["WINDOWS"]}, ["embedding"])
    inputs = {**features, "index": first["INDEX"]}
    audio = triton.infer("audio_window", inputs, ["audio"])["audio"]
    expected = oracles["toy"].audio(wave)
    assert np.abs(audio - expected).max() <= 1e-5 * max(1, np.abs(expected).max())
    assert first["LOOP_INDEX"][:, 0].tolist() == list(range(len(expected)))


def test_frame_counts(server: Server) -> None:
    """718,147 samples make 1,121 frames: the last can be had, the next can't."""
    triton = Triton(server, "grpc")
    wave = np.zeros(718_147, np.float32)
    assert triton.frames("toy", **slice_request(wave, 1120, 1)).shape[0] == 1
    with pytest.raises(Exception, match="has 1121"):
        triton.frames("toy", **slice_request(wave, 1121, 1))


def test_a_live_slice_gives_the_same_frames(
    server: Server, oracles: dict[str, oracle.Oracle]
) -> None:
    wave = speech(2.0)
    request = slice_request(wave, 5, 8) | {"clip": -1}
    frames = Triton(server, "grpc").frames("toy", **request)
    assert_same_frames(frames, oracles["toy"].render(wave)[5:13])


def test_a_live_clip_gives_what_is_complete(server: Server) -> None:
    """Frame i of a clip being recorded needs 640 i + 7240 samples, by the contract's arithmetic."""
    triton = Triton(server, "grpc")
    wave = speech(1.0)
    assert triton.frames("toy", wave, clip=-1).shape[0] == 1 + (16000 - 7240) // 640
    with pytest.raises(Exception, match="send more audio"):
        triton.frames("toy", wave[:7000], clip=-1)


def test_pose_offset_goes_on_where_the_last_clip_ended(
    server: Server, oracles: dict[str, oracle.Oracle]
) -> None:
    wave = speech(0.3)
    frames = Triton(server, "grpc").frames("toy", wave, loop_offset=13)
    assert_same_frames(frames, oracles["toy"].render(wave, loop_offset=13))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("avatar", ["toy", "wide"])
def test_i420(
    server: Server, oracles: dict[str, oracle.Oracle], protocol: str, avatar: str
) -> None:
    """Planar YUV of the same frames: exactly what OpenCV makes of `FRAMES`."""
    wave = speech(0.4)
    triton = Triton(server, protocol)
    bgr, i420 = triton.frames(avatar, wave), triton.frames(avatar, wave, "I420")
    height, width = bgr.shape[1:3]
    assert i420.shape == (len(bgr), height * 3 // 2, width)
    for frame, planar, expected in zip(bgr, i420, oracles[avatar].render(wave), strict=True):
        assert np.array_equal(planar, cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420))
        of_oracle = cv2.cvtColor(expected, cv2.COLOR_BGR2YUV_I420)
        assert np.abs(planar.astype(int) - of_oracle).max() <= 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_jpeg(server: Server, protocol: str) -> None:
    wave = speech(0.4)
    triton = Triton(server, protocol)
    raw = triton.frames("toy", wave)
    units = triton.frames("toy", wave, "JPEG")[:, 0]
    assert len(units) == len(raw)
    for unit, frame in zip(units, raw, strict=True):
        # The loss is that of the codec on this very frame, and nothing else.
        expected = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        assert unit == expected
    small = triton.frames("toy", wave, "JPEG", {"jpeg_quality": 20})[:, 0]
    assert sum(map(len, small)) < sum(map(len, units)) / 2


def test_h264_segments_join_by_concatenation(server: Server) -> None:
    wave = speech(2.0)
    triton = Triton(server, "grpc")
    raw: list[NDArray[Any]] = []
    stream = b""
    for first in (0, 16, 32):
        count = 16
        request = slice_request(wave, first, count)
        raw.extend(triton.frames("wide", **request))
        units = triton.frames("wide", output="H264", **request)[:, 0]
        assert len(units) == count  # an access unit a frame
        assert nal_types(units[0])[:2] == [7, 8]  # SPS, PPS
        assert 5 in nal_types(units[0])  # IDR
        assert all(5 not in nal_types(unit) for unit in units[1:])
        stream += b"".join(units)
    with av.open(io.BytesIO(stream), format="h264") as container:
        assert container.streams.video[0].codec_context.has_b_frames == 0
        decoded = [f.to_ndarray(format="yuv420p") for f in container.decode(video=0)]
    assert len(decoded) == len(raw) == 48
    for picture, frame in zip(decoded, raw, strict=True):
        assert psnr(picture, cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420)) >= 35


def test_the_audio_matters(server: Server) -> None:
    """Two clips give different mouths, and neither is the mouth of silence."""
    triton = Triton(server, "grpc")
    a, b, silence = (
        triton.frames("toy", w) for w in (speech(1), speech(1, 3), np.zeros(16000, "f"))
    )
    for one, other in ((a, b), (a, silence), (b, silence)):
        assert np.abs(one[12].astype(int) - other[12]).max() >= 3


@pytest.mark.server
@pytest.mark.needs_true_size
def test_the_true_size(tmp_path: Path, toy_avatars: dict[str, ToyAvatar]) -> None:
    """The 46 MB network, once, from import to frames."""
    generator, encoder = tmp_path / "99.onnx", tmp_path / "audio_encoder.onnx"
    onnx.save(networks.build_generator(random_weights.generator_state(1.0, seed=3)), str(generator))
    assert generator.stat().st_size == pytest.approx(48_700_250, rel=0.01)
    onnx.save(
        networks.build_audio_encoder(random_weights.audio_encoder_state(seed=3)), str(encoder)
    )
    repository = tmp_path / "models"
    built = shutil.ignore_patterns("*.onnx", "*.npz")
    shutil.copytree(ROOT / "model_repository", repository, ignore=built)
    dataset = toy_avatars["toy"].dataset
    add_avatar(repository, "full", dataset, generator, encoder)
    wave = speech(0.4)
    expected = oracle.Oracle(dataset, generator, encoder).render(wave)
    write_profile(repository, "full", OPENVINO_F32, ProfileSettings())
    for profile, words in ((None, "ONNX Runtime"), (OPENVINO_F32, "OpenVINO")):
        log = tmp_path / f"{profile}.log"
        with Server(repository, models=["full"], profile=profile, log_file=log) as server:
            assert_same_frames(Triton(server, "grpc").frames("full", wave), expected)
        assert f"full_generator: {words}" in log.read_text()
